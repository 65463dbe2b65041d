use candle_core::{Tensor, backprop::GradStore};
use opd_kernels::{
    add_assign, linear_grad_weight, linear_grad_weight_acc, scatter_add_rows, sum_of_squares,
};

use crate::{Error, Parameters, Result, parameters::ParameterId};

/// Sums of gradients, one per parameter of a model.
#[derive(Debug)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// Nothing gathered yet.
    pub fn new(parameters: &Parameters) -> Self {
        Self(vec![None; parameters.len()])
    }

    /// The gradients in the parameters' order; `None` where none arrived.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&Tensor>> {
        self.0.iter().map(Option::as_ref)
    }

    /// Adds the gradients that other samples gave the same model.
    ///
    /// # Errors
    ///
    /// If the shapes differ.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (i, gradient) in other.0.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                self.add_tensor(ParameterId(i), gradient)?;
            }
        }
        Ok(())
    }

    /// Those of [`Parameters::joined`]: these, then `more`.
    #[must_use]
    pub fn joined(self, more: Self) -> Self {
        Self(self.0.into_iter().chain(more.0).collect())
    }

    /// Takes what a graph's backward found for each of `parameters`, which these belong to.
    pub(crate) fn add_found(
        &mut self,
        parameters: &Parameters,
        store: &mut GradStore,
    ) -> Result<()> {
        for (i, parameter) in parameters.iter().enumerate() {
            if let Some(gradient) = store.remove(parameter.var().as_tensor()) {
                self.add_tensor(ParameterId(i), gradient)?;
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
        for (parameter, gradient) in parameters.iter().zip(&self.0) {
            let Some(gradient) = gradient else { continue };
            let squares = sum_of_squares(gradient)?;
            if !squares.is_finite() {
                return Err(Error::NotFinite { what: "gradient", name: parameter.name() });
            }
            total += squares;
        }
        Ok(total.sqrt())
    }

    pub(crate) fn add_tensor(&mut self, id: ParameterId, gradient: Tensor) -> Result<()> {
        match &self.0[id.0] {
            Some(sum) => add_assign(sum, &gradient)?,
            None => self.0[id.0] = Some(gradient),
        }
        Ok(())
    }

    /// Adds `dy^T x`.
    pub(crate) fn add_product(&mut self, id: ParameterId, dy: &Tensor, x: &Tensor) -> Result<()> {
        match &self.0[id.0] {
            Some(sum) => linear_grad_weight_acc(dy, x, sum)?,
            None => self.0[id.0] = Some(linear_grad_weight(dy, x)?),
        }
        Ok(())
    }

    /// Adds row `t` of `rows` to row `ids[t]` of a gradient of shape `like`.
    pub(crate) fn add_rows(
        &mut self,
        id: ParameterId,
        like: &Tensor,
        ids: &Tensor,
        rows: &Tensor,
    ) -> Result<()> {
        if self.0[id.0].is_none() {
            self.0[id.0] = Some(like.zeros_like()?);
        }
        if let Some(sum) = &self.0[id.0] {
            scatter_add_rows(sum, ids, rows)?;
        }
        Ok(())
    }
}
