use candle_core::Tensor;

use crate::{
    EncodedMatrix, Error, Head, HeadGradient, Products, Result, Weight, WeightRef,
    cpu::{
        self, by_dtype,
        projection::{HeadRows, Projected},
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
            None => by_dtype!(op, hidden, _T => Ok(()))?,
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
    hidden: cpu::View<'a, T>,
    weight: WeightView<'a, T>,
    bias: Option<cpu::View<'a, T>>,
    products: Products,
    /// Width and vocabulary.
    dims: (usize, usize),
}

enum WeightView<'a, T> {
    Tensor(cpu::View<'a, T>),
    Encoded(&'a EncodedMatrix),
}

impl<'a, T: cpu::gemm::Gemm> ProjectionView<'a, T> {
    pub(crate) fn of(
        op: &'static str,
        Projection { hidden, head }: Projection<'a>,
    ) -> Result<Self> {
        let weight = match head.weight {
            WeightRef::Tensor(weight) => WeightView::Tensor(cpu::view(op, weight)?),
            WeightRef::Encoded(weight) => WeightView::Encoded(weight),
        };
        Ok(Self {
            hidden: cpu::view(op, hidden)?,
            weight,
            bias: head.bias.map(|bias| cpu::view(op, bias)).transpose()?,
            products: head.products,
            dims: (head.weight.dims()[1], head.weight.dims()[0]),
        })
    }

    pub(crate) fn projected(&self) -> Projected<'_, T> {
        let weight = match &self.weight {
            WeightView::Tensor(values) => HeadRows::Values(values),
            WeightView::Encoded(weight) => HeadRows::Encoded(weight),
        };
        Projected::new(&self.hidden, (weight, self.products), self.bias.as_deref(), self.dims)
    }
}

/// Which gradients of a projection are wanted, and the buffers they are gathered in.
pub(crate) struct ProjectionGradient<T> {
    hidden: Option<Vec<T>>,
    /// Empty until some rows have given a part of it.
    pub(crate) weight: Option<Vec<T>>,
    bias: Option<Vec<f64>>,
}

impl<T: cpu::gemm::Gemm> ProjectionGradient<T> {
    /// Buffers for those that are part of the graph.
    pub(crate) fn wanted(Projection { hidden, head }: Projection<'_>) -> Self {
        let tracked = |tensor: &&Tensor| tensor.track_op();
        Self {
            hidden: tracked(&hidden).then(|| vec![T::ZERO; hidden.elem_count()]),
            weight: head.weight.track_op().then(Vec::new),
            bias: head.bias.filter(tracked).map(|bias| vec![0.0; bias.elem_count()]),
        }
    }

    /// Takes in the gradient of the logits of `rows`.
    pub(crate) fn add(
        &mut self,
        projected: &Projected<'_, T>,
        dlogits: &[T],
        rows: std::ops::Range<usize>,
    ) {
        if let Some(hidden) = &mut self.hidden {
            let at = rows.start * projected.width..rows.end * projected.width;
            projected.hidden_gradient(&mut hidden[at], dlogits);
        }
        if let Some(weight) = &mut self.weight {
            projected.add_head_gradient(weight, dlogits, rows);
        }
        if let Some(bias) = &mut self.bias {
            cpu::bias::add_column_sums(bias, dlogits);
        }
    }

    /// As tensors of the arguments' shapes.
    pub(crate) fn finish(self, Projection { hidden, head }: Projection<'_>) -> Result<Gradients> {
        let tensor = |values: Option<Vec<T>>, dims: &[usize]| {
            let whole = |mut values: Vec<T>| {
                values.resize(dims.iter().product(), T::ZERO);
                cpu::tensor(values, dims)
            };
            values.map(whole).transpose()
        };
        let bias = self.bias.map(|sums| sums.into_iter().map(T::of).collect::<Vec<T>>());
        let vocab = &head.weight.dims()[..1];
        Ok(Gradients {
            hidden: tensor(self.hidden, hidden.dims())?,
            weight: tensor(self.weight, head.weight.dims())?,
            bias: tensor(bias, vocab)?,
        })
    }
}
