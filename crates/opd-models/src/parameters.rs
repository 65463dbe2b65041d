use candle_core::{Tensor, Var};

/// One trainable tensor of a model.
///
/// It may hold several tensors of the Hugging Face layout, stacked along their first
/// dimension (queries, keys and values; gate and up): one product instead of several.
#[derive(Clone, Debug)]
pub struct Parameter {
    parts: Vec<(String, usize)>,
    var: Var,
}

impl Parameter {
    pub(crate) fn new(parts: Vec<(String, usize)>, var: Var) -> Self {
        Self { parts, var }
    }

    /// Names of its parts, joined by `+`.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|(name, _)| name.as_str()).collect();
        names.join("+")
    }

    /// Hugging Face name and rows of each part.
    pub(crate) fn parts(&self) -> &[(String, usize)] {
        &self.parts
    }

    /// The variable.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Its values, outside any graph; changes of the variable show.
    pub fn tensor(&self) -> Tensor {
        self.var.as_detached_tensor()
    }

    /// Cuts a tensor of this parameter's shape into its parts, under their Hugging Face names.
    ///
    /// # Errors
    ///
    /// If `tensor` has another shape.
    pub fn split<'a>(
        &'a self,
        tensor: &'a Tensor,
    ) -> impl Iterator<Item = (&'a str, candle_core::Result<Tensor>)> {
        let mut start = 0;
        self.parts.iter().map(move |(name, rows)| {
            let part = tensor.narrow(0, start, *rows);
            start += rows;
            (name.as_str(), part)
        })
    }
}

/// All trainable tensors of a model, in a fixed order.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Places before the first that belong to tensors that are frozen.
    frozen: usize,
    list: Vec<Parameter>,
}

/// Place of a tensor in its model: weights first, then adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParameterId(pub(crate) usize);

impl ParameterId {
    /// That of every matrix which is held for reading alone: it is no parameter, and frozen.
    pub(crate) const ENCODED: Self = Self(usize::MAX);
}

impl Parameters {
    /// None yet, behind weights that are frozen.
    pub(crate) fn behind(frozen: &Self) -> Self {
        Self { frozen: frozen.len(), list: Vec::new() }
    }

    pub(crate) fn push(&mut self, parameter: Parameter) -> (ParameterId, Tensor) {
        let tensor = parameter.tensor();
        self.list.push(parameter);
        (ParameterId(self.frozen + self.list.len() - 1), tensor)
    }

    /// Places before the first.
    pub(crate) fn frozen(&self) -> usize {
        self.frozen
    }

    /// Index of a tensor among these; `None` for one that is frozen.
    pub(crate) fn index(&self, id: ParameterId) -> Option<usize> {
        id.0.checked_sub(self.frozen)
    }

    /// The parameter of this place; `None` for a tensor that is frozen.
    pub(crate) fn get(&self, id: ParameterId) -> Option<&Parameter> {
        self.list.get(self.index(id)?)
    }

    /// Variables of their own, of the same values.
    pub(crate) fn copied(&self) -> candle_core::Result<Self> {
        let copy = |parameter: &Parameter| {
            let var = Var::from_tensor(&parameter.tensor().copy()?)?;
            Ok(Parameter::new(parameter.parts.clone(), var))
        };
        let list = self.iter().map(copy).collect::<candle_core::Result<_>>()?;
        Ok(Self { frozen: self.frozen, list })
    }

    /// These, then those of another model or head; the variables are shared.
    #[must_use]
    pub fn joined(&self, more: &Self) -> Self {
        let list = self.iter().chain(more.iter()).cloned().collect();
        Self { frozen: self.frozen, list }
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.list.iter()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of values in all.
    pub fn n_values(&self) -> usize {
        self.iter().map(|parameter| parameter.var.elem_count()).sum()
    }
}
