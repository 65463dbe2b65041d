use candle_core::{Tensor, backprop::GradStore};
use opd_kernels::{Products, add_assign, scatter_add_rows, sum_of_squares};

use crate::{Error, Parameters, Result, parameters::ParameterId};

/// Sums of gradients, one per parameter of a model. Those of frozen tensors are neither computed
/// nor held.
#[derive(Debug)]
pub struct Gradients {
    /// As [`Parameters`] has it.
    frozen: usize,
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Nothing gathered yet.
    pub fn new(parameters: &Parameters) -> Self {
        Self { frozen: parameters.frozen(), sums: vec![None; parameters.len()] }
    }

    /// The gradients in the parameters' order; `None` where none arrived.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&Tensor>> {
        self.sums.iter().map(Option::as_ref)
    }

    /// Adds the gradients that other samples gave the same model.
    ///
    /// # Errors
    ///
    /// If the shapes differ.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (sum, gradient) in self.sums.iter_mut().zip(other.sums) {
            if let Some(gradient) = gradient {
                add(sum, gradient)?;
            }
        }
        Ok(())
    }

    /// Those of [`Parameters::joined`]: these, then `more`.
    #[must_use]
    pub fn joined(self, more: Self) -> Self {
        let sums = self.sums.into_iter().chain(more.sums).collect();
        Self { frozen: self.frozen, sums }
    }

    /// Takes what a graph's backward found for each of `parameters`, which these belong to.
    pub(crate) fn add_found(
        &mut self,
        parameters: &Parameters,
        store: &mut GradStore,
    ) -> Result<()> {
        for (sum, parameter) in self.sums.iter_mut().zip(parameters.iter()) {
            if let Some(gradient) = store.remove(parameter.var().as_tensor()) {
                add(sum, gradient)?;
            }
        }
        Ok(())
    }

    /// Euclidean norm over all values.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`] naming the first parameter whose gradient is not.
    pub fn norm(&self, parameters: &Parameters) -> Result<f64> {
        let mut total = 0.0;
        for (parameter, gradient) in parameters.iter().zip(&self.sums) {
            let Some(gradient) = gradient else { continue };
            let squares = sum_of_squares(gradient)?;
            if !squares.is_finite() {
                return Err(Error::NotFinite { what: "gradient", name: parameter.name() });
            }
            total += squares;
        }
        Ok(total.sqrt())
    }

    fn sum(&mut self, id: ParameterId) -> Option<&mut Option<Tensor>> {
        self.sums.get_mut(id.0.checked_sub(self.frozen)?)
    }

    pub(crate) fn add_tensor(&mut self, id: ParameterId, gradient: Tensor) -> Result<()> {
        match self.sum(id) {
            Some(sum) => add(sum, gradient),
            None => Ok(()),
        }
    }

    /// Adds the sum of the rows of `dy`.
    pub(crate) fn add_column_sums(&mut self, id: ParameterId, dy: &Tensor) -> Result<()> {
        match self.sum(id) {
            Some(sum) => add(sum, dy.sum(0)?),
            None => Ok(()),
        }
    }

    /// Adds `dy^T x`.
    pub(crate) fn add_product(
        &mut self,
        id: ParameterId,
        dy: &Tensor,
        x: &Tensor,
        products: Products,
    ) -> Result<()> {
        match self.sum(id) {
            None => {}
            Some(Some(sum)) => products.grad_weight_acc(dy, x, sum)?,
            Some(sum) => *sum = Some(products.grad_weight(dy, x)?),
        }
        Ok(())
    }

    /// Adds row `t` of `rows` to row `ids[t]` of a gradient of shape `dims`.
    pub(crate) fn add_rows(
        &mut self,
        id: ParameterId,
        dims: &[usize],
        ids: &Tensor,
        rows: &Tensor,
    ) -> Result<()> {
        let Some(sum) = self.sum(id) else { return Ok(()) };
        let held = match sum.take() {
            Some(held) => held,
            None => Tensor::zeros(dims, rows.dtype(), rows.device())?,
        };
        scatter_add_rows(&held, ids, rows)?;
        *sum = Some(held);
        Ok(())
    }
}

fn add(sum: &mut Option<Tensor>, gradient: Tensor) -> Result<()> {
    match sum {
        Some(sum) => add_assign(sum, &gradient)?,
        None => *sum = Some(gradient),
    }
    Ok(())
}
