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
pub struct Parameters(Vec<Parameter>);

/// Place of a parameter in its model's [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParameterId(pub(crate) usize);

impl Parameters {
    pub(crate) fn push(&mut self, parameter: Parameter) -> (ParameterId, Tensor) {
        let tensor = parameter.tensor();
        self.0.push(parameter);
        (ParameterId(self.0.len() - 1), tensor)
    }

    pub(crate) fn get(&self, id: ParameterId) -> &Parameter {
        &self.0[id.0]
    }

    /// These, then those of another model or head; the variables are shared.
    #[must_use]
    pub fn joined(&self, more: &Self) -> Self {
        Self(self.iter().chain(more.iter()).cloned().collect())
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.0.iter()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of values in all.
    pub fn n_values(&self) -> usize {
        self.iter().map(|parameter| parameter.var.elem_count()).sum()
    }
}
