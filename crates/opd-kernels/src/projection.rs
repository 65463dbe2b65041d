use std::ops::Range;

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use crate::{
    EncodedMatrix, Error, Head, HeadGradient, Products, Result, Weight, WeightRef,
    cpu::{
        self, Stored, by_stored,
        gemm::{Gemm, TensorTiles, Tiles},
        part::Part,
        projection::{HeadRows, HiddenRows, Projected},
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
        self.head.check_bias(op, vocab, hidden)?;
        Ok((rows, vocab))
    }
}

/// The tensors of a projection, contiguous.
#[derive(Clone, Debug)]
pub(crate) struct Operands {
    pub(crate) hidden: Tensor,
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor>,
    pub(crate) products: Products,
}

impl Operands {
    pub(crate) fn of(projection: Projection<'_>) -> Result<Self> {
        let Head { weight, products, bias, .. } = projection.head;
        Ok(Self {
            hidden: projection.hidden.contiguous()?,
            weight: weight.contiguous()?,
            bias: bias.map(Tensor::contiguous).transpose()?,
            products,
        })
    }

    /// The same outside any graph.
    pub(crate) fn detach(self) -> Self {
        Self {
            hidden: self.hidden.detach(),
            weight: self.weight.as_ref().detach(),
            bias: self.bias.map(|bias| bias.detach()),
            products: self.products,
        }
    }

    /// The same, with a weight outside the graph if its gradient goes elsewhere.
    pub(crate) fn gathered_by(self, sink: &Option<HeadGradient>) -> Self {
        match sink {
            None => self,
            Some(_) => Self { weight: self.weight.as_ref().detach(), ..self },
        }
    }

    pub(crate) fn projection(&self) -> Projection<'_> {
        let head = Head::new(&self.weight, self.products);
        Projection { hidden: &self.hidden, head: Head { bias: self.bias.as_ref(), ..head } }
    }
}

/// Gradients of a projection's tensors; `None` for those that are not part of the graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gradients {
    pub(crate) hidden: Option<Tensor>,
    pub(crate) weight: Option<Tensor>,
    pub(crate) bias: Option<Tensor>,
}

impl Gradients {
    /// Multiplied by a scalar.
    pub(crate) fn scaled(&self, by: &Tensor) -> Result<Self> {
        let scaled = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => {
                Ok::<_, Error>(Some(gradient.broadcast_mul(&by.to_dtype(gradient.dtype())?)?))
            }
            None => Ok(None),
        };
        let Self { hidden, weight, bias } = self;
        Ok(Self { hidden: scaled(hidden)?, weight: scaled(weight)?, bias: scaled(bias)? })
    }
}

/// The values of a projection's contiguous tensors on the CPU, borrowed from where they are.
pub(crate) struct ProjectionView<'a, T> {
    hidden: MatrixView<'a, T>,
    weight: WeightView<'a, T>,
    /// Widened where its dtype is not computed in.
    bias: Option<BiasView<'a, T>>,
    products: Products,
    /// Width and vocabulary.
    dims: (usize, usize),
}

enum MatrixView<'a, T> {
    Tensor(cpu::View<'a, T>),
    /// Widened where it is read.
    Stored(Box<dyn Tiles + 'a>),
}

enum WeightView<'a, T> {
    Matrix(MatrixView<'a, T>),
    Encoded(&'a EncodedMatrix),
}

enum BiasView<'a, T> {
    Tensor(cpu::View<'a, T>),
    Wide(Vec<T>),
}

impl<'a, T: Gemm> MatrixView<'a, T> {
    fn of(op: &'static str, matrix: &'a Tensor) -> Result<Self> {
        let shape = [matrix.dims()[0], matrix.dims()[1]];
        Ok(match matrix.dtype() {
            DType::BF16 => {
                let values = cpu::view(op, matrix)?;
                Self::Stored(Box::new(TensorTiles::<bf16> { values, shape }))
            }
            DType::F16 => {
                let values = cpu::view(op, matrix)?;
                Self::Stored(Box::new(TensorTiles::<f16> { values, shape }))
            }
            _ => Self::Tensor(cpu::view(op, matrix)?),
        })
    }
}

impl<'a, T: Gemm> ProjectionView<'a, T> {
    pub(crate) fn of(
        op: &'static str,
        Projection { hidden, head }: Projection<'a>,
    ) -> Result<Self> {
        let weight = match head.weight {
            WeightRef::Tensor(weight) => WeightView::Matrix(MatrixView::of(op, weight)?),
            WeightRef::Encoded(weight) => WeightView::Encoded(weight),
        };
        let bias = |bias: &'a Tensor| -> Result<_> {
            Ok(match bias.dtype() {
                DType::BF16 | DType::F16 => {
                    let wide = bias.to_dtype(DType::F32)?;
                    let wide = cpu::view::<f32>(op, &wide)?;
                    BiasView::Wide(wide.iter().map(|&x| T::of(f64::from(x))).collect())
                }
                _ => BiasView::Tensor(cpu::view(op, bias)?),
            })
        };
        Ok(Self {
            hidden: MatrixView::of(op, hidden)?,
            weight,
            bias: head.bias.map(bias).transpose()?,
            products: head.products,
            dims: (head.weight.dims()[1], head.weight.dims()[0]),
        })
    }

    pub(crate) fn projected(&self) -> Projected<'_, T> {
        let hidden = match &self.hidden {
            MatrixView::Tensor(values) => HiddenRows::Values(values),
            MatrixView::Stored(hidden) => HiddenRows::Tiles(&**hidden),
        };
        let weight = match &self.weight {
            WeightView::Matrix(MatrixView::Tensor(values)) => HeadRows::Values(values),
            WeightView::Matrix(MatrixView::Stored(weight)) => HeadRows::Tiles(&**weight),
            WeightView::Encoded(weight) => HeadRows::Tiles(*weight),
        };
        let bias = self.bias.as_ref().map(|bias| match bias {
            BiasView::Tensor(values) => &**values,
            BiasView::Wide(values) => values,
        });
        Projected::new(hidden, (weight, self.products), bias, self.dims)
    }
}

/// Which gradients of a projection are wanted, and the buffers they are gathered in.
pub(crate) struct ProjectionGradient<T> {
    hidden: Option<RowGradient<T>>,
    /// Empty until some rows have given a part of it.
    pub(crate) weight: Option<Vec<T>>,
    bias: Option<Vec<f64>>,
}

/// A gradient whose rows are sums of parts, each rounded once to the dtype that is stored.
enum RowGradient<T> {
    Full(Vec<T>),
    Bf16(Rounded<bf16, T>),
    F16(Rounded<f16, T>),
}

struct Rounded<S, T> {
    values: Vec<S>,
    /// Sums of rows of which not all parts have come.
    sums: Vec<T>,
}

impl<S: Stored<Wide = f32>, T: Gemm> Rounded<S, T> {
    fn zeros(n: usize) -> Self {
        Self { values: vec![S::default(); n], sums: Vec::new() }
    }

    fn add(&mut self, at: Range<usize>, is_last: bool, write: impl FnOnce(&mut [T])) {
        self.sums.resize(at.len(), T::ZERO);
        write(&mut self.sums);
        if is_last && let Some(sums) = T::as_f32(&self.sums) {
            S::narrow(sums, &mut self.values[at]);
        }
    }
}

impl<T: Gemm> RowGradient<T> {
    /// Zeros like `tensor`.
    fn zeros(tensor: &Tensor) -> Self {
        let n = tensor.elem_count();
        match tensor.dtype() {
            DType::BF16 => Self::Bf16(Rounded::zeros(n)),
            DType::F16 => Self::F16(Rounded::zeros(n)),
            _ => Self::Full(vec![T::ZERO; n]),
        }
    }

    /// Lets `write` set some values or add to them; `is_last`: whether no further part does.
    fn add(&mut self, at: Range<usize>, is_last: bool, write: impl FnOnce(&mut [T])) {
        match self {
            Self::Full(values) => write(&mut values[at]),
            Self::Bf16(rounded) => rounded.add(at, is_last, write),
            Self::F16(rounded) => rounded.add(at, is_last, write),
        }
    }

    fn into_tensor(self, dims: &[usize]) -> Result<Tensor> {
        match self {
            Self::Full(values) => cpu::tensor(values, dims),
            Self::Bf16(rounded) => cpu::tensor(rounded.values, dims),
            Self::F16(rounded) => cpu::tensor(rounded.values, dims),
        }
    }
}

impl<T: Gemm> ProjectionGradient<T> {
    /// Buffers for those that are part of the graph.
    pub(crate) fn wanted(Projection { hidden, head }: Projection<'_>) -> Self {
        let bias = head.bias.filter(|bias| bias.track_op());
        Self {
            hidden: hidden.track_op().then(|| RowGradient::zeros(hidden)),
            weight: head.weight.track_op().then(Vec::new),
            bias: bias.map(|bias| vec![0.0; bias.elem_count()]),
        }
    }

    /// Takes in the gradient of a part of the logits; of some rows, parts come in the order of ids.
    pub(crate) fn add(&mut self, projected: &Projected<'_, T>, dlogits: &[T], part: &Part) {
        if let Some(hidden) = &mut self.hidden {
            let at = part.rows.start * projected.width..part.rows.end * projected.width;
            let is_last = part.ids.end == projected.vocab;
            let add = |hidden: &mut [T]| projected.add_hidden_gradient(hidden, dlogits, part);
            hidden.add(at, is_last, add);
        }
        if let Some(weight) = &mut self.weight {
            projected.add_head_gradient(weight, dlogits, part);
        }
        if let Some(bias) = &mut self.bias {
            cpu::bias::add_column_sums(&mut bias[part.ids.clone()], dlogits);
        }
    }

    /// As tensors of the arguments' shapes and dtypes.
    pub(crate) fn finish(self, Projection { hidden, head }: Projection<'_>) -> Result<Gradients> {
        let (vocab, dtype) = (head.weight.dims()[0], hidden.dtype());
        let of_hidden = self.hidden.map(|rows| rows.into_tensor(hidden.dims()));
        let of_weight = |mut values: Vec<T>| {
            values.resize(head.weight.dims().iter().product(), T::ZERO);
            narrowed(values, head.weight.dims(), dtype)
        };
        let of_bias =
            |sums: Vec<f64>| narrowed(sums.into_iter().map(T::of).collect(), &[vocab], dtype);
        Ok(Gradients {
            hidden: of_hidden.transpose()?,
            weight: self.weight.map(of_weight).transpose()?,
            bias: self.bias.map(of_bias).transpose()?,
        })
    }
}

/// A tensor of this dtype, if it is narrower than what is computed in: each value rounded once.
fn narrowed<T: Gemm>(values: Vec<T>, dims: &[usize], dtype: DType) -> Result<Tensor> {
    match (dtype, T::as_f32(&values)) {
        (DType::BF16, Some(wide)) => cpu::tensor(cpu::rounded::<bf16>(wide), dims),
        (DType::F16, Some(wide)) => cpu::tensor(cpu::rounded::<f16>(wide), dims),
        _ => cpu::tensor(values, dims),
    }
}
