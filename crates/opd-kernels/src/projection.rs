use std::ops::Range;

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use crate::{
    EncodedMatrix, Error, Head, Result, WeightRef,
    cpu::{
        self, Stored, by_stored,
        gemm::{Gemm, TensorTiles, Tiles, with_buffer},
        projection::{HeadRows, HiddenRows},
    },
    gpu,
    logprob::{check_device, matrix},
    matmul::check_encoded,
};

/// Logits that are never written: hidden states and the head that would turn them into logits.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// `[T, H]`; row `t` predicts token `t`.
    pub hidden: &'a Tensor,
    /// `[V, H]`: `logits = hidden head^T`.
    pub head: Head<'a>,
}

impl<'a> Projection<'a> {
    /// Of these hidden states; a tensor as head has [`Products::Full`](crate::Products::Full).
    pub fn new(hidden: &'a Tensor, head: impl Into<Head<'a>>) -> Self {
        Self { hidden, head: head.into() }
    }

    /// Rows and vocabulary.
    pub(crate) fn check(&self, op: &'static str) -> Result<(usize, usize)> {
        check_device(op, self.hidden)?;
        let (rows, width) = matrix(op, "hidden", self.hidden)?;
        let (vocab, head_width) = match self.head.weight {
            WeightRef::Tensor(head) => {
                check_device(op, head)?;
                self.head.products.check(op, ("head", head))?;
                matrix(op, "head", head)?
            }
            WeightRef::Encoded(head) => {
                check_encoded(op, ("hidden", self.hidden))?;
                (head.dims()[0], head.dims()[1])
            }
        };
        if width != head_width {
            return Err(Error::Shape {
                op,
                what: "head",
                expected: format!("[V, {width}], as wide as hidden"),
                got: vec![vocab, head_width],
            });
        }
        let hidden = self.hidden;
        match gpu::of(hidden) {
            Some(_) => drop(gpu::suffix(op, "hidden", hidden.dtype())?),
            None => by_stored!(op, hidden, _S => Ok(()))?,
        }
        if let Some(head) = self.head.weight.tensor()
            && head.dtype() != hidden.dtype()
        {
            let remedy = "give head and hidden one dtype";
            return Err(Error::DType { op, what: "head", got: head.dtype(), remedy });
        }
        Ok((rows, vocab))
    }
}

/// The values of a head, borrowed from where they are.
pub(crate) enum HeadValues<'a, T> {
    Tensor(cpu::View<'a, T>),
    Stored(Box<dyn Tiles + 'a>),
    Encoded(&'a EncodedMatrix),
}

impl<'a, T: Gemm> HeadValues<'a, T> {
    /// Of a head that is contiguous.
    pub(crate) fn of(op: &'static str, head: WeightRef<'a>) -> Result<Self> {
        Ok(match head {
            WeightRef::Tensor(head) => match tiles(op, head)? {
                Some(head) => Self::Stored(head),
                None => Self::Tensor(cpu::view(op, head)?),
            },
            WeightRef::Encoded(head) => Self::Encoded(head),
        })
    }

    pub(crate) fn rows(&self) -> HeadRows<'_, T> {
        match self {
            Self::Tensor(values) => HeadRows::Values(values),
            Self::Stored(head) => HeadRows::Tiles(&**head),
            Self::Encoded(head) => HeadRows::Tiles(*head),
        }
    }
}

/// Hidden states, borrowed from where they are.
pub(crate) enum HiddenValues<'a, T> {
    Tensor(cpu::View<'a, T>),
    Stored(Box<dyn Tiles + 'a>),
}

impl<'a, T: Gemm> HiddenValues<'a, T> {
    /// Of a matrix that is contiguous.
    pub(crate) fn of(op: &'static str, hidden: &'a Tensor) -> Result<Self> {
        Ok(match tiles(op, hidden)? {
            Some(hidden) => Self::Stored(hidden),
            None => Self::Tensor(cpu::view(op, hidden)?),
        })
    }

    pub(crate) fn rows(&self) -> HiddenRows<'_, T> {
        match self {
            Self::Tensor(values) => HiddenRows::Values(values),
            Self::Stored(hidden) => HiddenRows::Tiles(&**hidden),
        }
    }
}

/// A contiguous matrix that is widened where it is read, if its dtype is not computed in.
fn tiles<'a>(op: &'static str, matrix: &'a Tensor) -> Result<Option<Box<dyn Tiles + 'a>>> {
    let shape = [matrix.dims()[0], matrix.dims()[1]];
    Ok(match matrix.dtype() {
        DType::BF16 => {
            Some(Box::new(TensorTiles::<bf16> { values: cpu::view(op, matrix)?, shape }))
        }
        DType::F16 => Some(Box::new(TensorTiles::<f16> { values: cpu::view(op, matrix)?, shape })),
        _ => None,
    })
}

/// Which gradients of a projection are wanted, and the buffers they are gathered in.
pub(crate) struct ProjectionGradient<T> {
    hidden: Option<RowGradient<T>>,
    /// Empty until some rows have given a part of it.
    pub(crate) head: Option<Vec<T>>,
}

/// Rows of which each is computed once.
enum RowGradient<T> {
    Full(Vec<T>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

impl<T: Gemm> RowGradient<T> {
    /// Zeros like `tensor`.
    fn zeros(tensor: &Tensor) -> Self {
        let n = tensor.elem_count();
        match tensor.dtype() {
            DType::BF16 => Self::Bf16(vec![bf16::ZERO; n]),
            DType::F16 => Self::F16(vec![f16::ZERO; n]),
            _ => Self::Full(vec![T::ZERO; n]),
        }
    }

    /// Lets `write` write some values, each rounded once.
    fn set(&mut self, at: Range<usize>, write: impl FnOnce(&mut [T])) {
        fn rounded<S: Stored<Wide = f32>, T: Gemm>(to: &mut [S], write: impl FnOnce(&mut [T])) {
            with_buffer(to.len(), |wide: &mut [T]| {
                write(wide);
                if let Some(wide) = T::as_f32(wide) {
                    S::narrow(wide, to);
                }
            });
        }
        match self {
            Self::Full(values) => write(&mut values[at]),
            Self::Bf16(values) => rounded(&mut values[at], write),
            Self::F16(values) => rounded(&mut values[at], write),
        }
    }

    fn into_tensor(self, dims: &[usize]) -> Result<Tensor> {
        match self {
            Self::Full(values) => cpu::tensor(values, dims),
            Self::Bf16(values) => cpu::tensor(values, dims),
            Self::F16(values) => cpu::tensor(values, dims),
        }
    }
}

impl<T: Gemm> ProjectionGradient<T> {
    /// Buffers for those of the two that are part of the graph.
    pub(crate) fn wanted(hidden: &Tensor, head: WeightRef<'_>) -> Self {
        Self {
            hidden: hidden.track_op().then(|| RowGradient::zeros(hidden)),
            head: head.track_op().then(Vec::new),
        }
    }

    /// Takes in the gradient of the logits of `rows`.
    pub(crate) fn add(
        &mut self,
        projected: &cpu::projection::Projected<'_, T>,
        dlogits: &[T],
        rows: Range<usize>,
    ) {
        if let Some(hidden) = &mut self.hidden {
            let at = rows.start * projected.width..rows.end * projected.width;
            hidden.set(at, |hidden| projected.hidden_gradient(hidden, dlogits));
        }
        if let Some(head) = &mut self.head {
            projected.add_head_gradient(head, dlogits, rows);
        }
    }

    /// As tensors of the arguments' shapes and dtypes.
    pub(crate) fn finish(
        self,
        hidden: &Tensor,
        head: WeightRef<'_>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_hidden = self.hidden.map(|rows| rows.into_tensor(hidden.dims())).transpose()?;
        let of_head = |mut values: Vec<T>| {
            values.resize(head.dims().iter().product(), T::ZERO);
            match T::as_f32(&values).map(|wide| (hidden.dtype(), wide)) {
                Some((DType::BF16, wide)) => {
                    return cpu::tensor(cpu::rounded::<bf16>(wide), head.dims());
                }
                Some((DType::F16, wide)) => {
                    return cpu::tensor(cpu::rounded::<f16>(wide), head.dims());
                }
                _ => {}
            }
            cpu::tensor(values, head.dims())
        };
        Ok((of_hidden, self.head.map(of_head).transpose()?))
    }
}
