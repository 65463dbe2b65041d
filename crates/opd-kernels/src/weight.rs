use candle_core::{Tensor, Var};

use crate::{EncodedMatrix, Result};

/// A matrix `[N, K]` that products read.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Values; a part of a graph where it is trained.
    Tensor(Tensor),
    /// A frozen matrix as its file has it, for f32 on the CPU.
    Encoded(EncodedMatrix),
}

/// A borrowed [`Weight`].
#[derive(Clone, Copy, Debug)]
pub enum WeightRef<'a> {
    /// As [`Weight::Tensor`].
    Tensor(&'a Tensor),
    /// As [`Weight::Encoded`].
    Encoded(&'a EncodedMatrix),
}

impl Weight {
    /// Borrows it.
    pub fn as_ref(&self) -> WeightRef<'_> {
        match self {
            Self::Tensor(tensor) => WeightRef::Tensor(tensor),
            Self::Encoded(matrix) => WeightRef::Encoded(matrix),
        }
    }

    /// `[N, K]`.
    pub fn dims(&self) -> &[usize] {
        self.as_ref().dims()
    }
}

impl<'a> WeightRef<'a> {
    /// `[N, K]`.
    pub fn dims(self) -> &'a [usize] {
        match self {
            Self::Tensor(tensor) => tensor.dims(),
            Self::Encoded(matrix) => matrix.dims(),
        }
    }

    /// The tensor, if it is one.
    pub fn tensor(self) -> Option<&'a Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Encoded(_) => None,
        }
    }

    /// All values: the tensor itself, or a new one in f32 that takes as much memory.
    ///
    /// # Errors
    ///
    /// If candle fails.
    pub fn to_tensor(self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Encoded(matrix) => matrix.to_tensor(),
        }
    }

    /// Whether gradients flow to it.
    pub fn track_op(self) -> bool {
        self.tensor().is_some_and(Tensor::track_op)
    }

    /// The same values outside any graph; nothing is copied.
    pub fn detach(self) -> Weight {
        match self {
            Self::Tensor(tensor) => Weight::Tensor(tensor.detach()),
            Self::Encoded(matrix) => Weight::Encoded(matrix.clone()),
        }
    }

    /// The same, with rows of a tensor back to back.
    pub(crate) fn contiguous(self) -> Result<Weight> {
        Ok(match self {
            Self::Tensor(tensor) => Weight::Tensor(tensor.contiguous()?),
            Self::Encoded(matrix) => Weight::Encoded(matrix.clone()),
        })
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl<'a> From<&'a Tensor> for WeightRef<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl<'a> From<&'a Var> for WeightRef<'a> {
    fn from(var: &'a Var) -> Self {
        Self::Tensor(var.as_tensor())
    }
}

impl<'a> From<&'a EncodedMatrix> for WeightRef<'a> {
    fn from(matrix: &'a EncodedMatrix) -> Self {
        Self::Encoded(matrix)
    }
}

impl<'a> From<&'a Weight> for WeightRef<'a> {
    fn from(weight: &'a Weight) -> Self {
        weight.as_ref()
    }
}
