use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, backend::BackendStorage};

use crate::{
    Error, Result,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView, argument},
        token_rows::{STATISTICS, TokenRows},
    },
    gpu::{self, Gpu, Recorded1},
    shape,
};

const OP: &str = "token_logprobs";

/// What a model says of each token that was there; `[T]` each, nats.
#[derive(Clone, Debug)]
pub struct TokenLogprobs {
    /// `log softmax(logits / temperature)` at the token's id.
    pub logprobs: Tensor,
    /// `log sum_v exp(logits_v / temperature)`.
    pub lse: Tensor,
    /// `-sum_v p_v log p_v`.
    pub entropy: Tensor,
}

impl TokenLogprobs {
    pub(crate) fn from_columns(columns: &Tensor) -> Result<Self> {
        let column = |i| columns.narrow(0, i, 1)?.squeeze(0);
        Ok(Self { logprobs: column(0)?, lse: column(1)?, entropy: column(2)? })
    }

    /// The same numbers without a graph.
    pub fn detach(&self) -> Self {
        Self {
            logprobs: self.logprobs.detach(),
            lse: self.lse.detach(),
            entropy: self.entropy.detach(),
        }
    }
}

/// Log-prob, log-sum-exp and entropy of the tokens `ids` under `logits`.
///
/// `logits` is `[T, V]` (f32, bf16 or f16; f64 on the CPU), `ids` is `[T]` (u32), `temperature` is
/// above 0. One read of the logits forward; backward one read and one write. All three outputs
/// are in f32, or f64 for f64, and differentiable. A logit of negative infinity is a token that
/// cannot occur. On the CPU bf16 and f16 are widened to a copy first.
///
/// ```text
/// z = logits / temperature,  lse_t = log sum_v exp(z_tv),  log p_tv = z_tv - lse_t
/// logprob_t = log p_t[id_t],  entropy_t = -sum_v p_tv log p_tv
/// dlogits_tv = (g_logprob (1[v = id_t] - p_tv) + g_lse p_tv
///               - g_entropy p_tv (log p_tv + entropy_t)) / temperature
/// ```
///
/// NaN or positive infinity in a row, or no finite value, makes all outputs of the row NaN. A
/// row whose three upstream gradients are 0 is not read and gets gradient 0.
///
/// Definition: [`reference::token_logprobs`](crate::reference::token_logprobs).
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`], [`Error::TokenId`] naming the
/// position, [`Error::Setting`] for the temperature.
pub fn token_logprobs(logits: &Tensor, ids: &Tensor, temperature: f64) -> Result<TokenLogprobs> {
    check_device(OP, logits)?;
    check_temperature(OP, temperature)?;
    let (rows, width) = matrix(OP, "logits", logits)?;
    if let Some(gpu) = gpu::of(logits) {
        let ids = device_ids(&gpu, OP, ids, rows, width)?;
        return on_gpu(gpu, logits.contiguous()?, ids, temperature);
    }
    if let Some(wide) = widened(logits)? {
        return token_logprobs(&wide, ids, temperature);
    }
    by_dtype!(OP, logits, _T => Ok(()))?;
    let ids = token_ids(OP, ids, rows, width)?;
    let columns = logits.contiguous()?.apply_op1(Op { ids, temperature })?;
    TokenLogprobs::from_columns(&columns)
}

fn on_gpu(gpu: Gpu, logits: Tensor, ids: Tensor, temperature: f64) -> Result<TokenLogprobs> {
    let value = gpu::token_rows::forward(&gpu, &logits, &ids, temperature)?;
    let backward = move |logits: &Tensor, saved: &Tensor, upstream: &Tensor| {
        let out = gpu::empty(logits.shape(), logits.dtype(), logits.device())?;
        let upstream = upstream.contiguous()?;
        let rows = (logits, &ids);
        gpu::token_rows::backward(&gpu, rows, saved, &upstream, &out, temperature)?;
        Ok(out)
    };
    let columns = logits.apply_op1(Recorded1 { name: OP, value, backward })?;
    TokenLogprobs::from_columns(&columns)
}

/// The same values in f32, if the CPU has no kernel for their dtype but can widen it. Gradients
/// come back rounded to the tensor's own dtype.
pub(crate) fn widened(tensor: &Tensor) -> Result<Option<Tensor>> {
    match tensor.dtype() {
        DType::BF16 | DType::F16 => Ok(Some(tensor.to_dtype(DType::F32)?)),
        _ => Ok(None),
    }
}

pub(crate) fn check_device(op: &'static str, tensor: &Tensor) -> Result<()> {
    if tensor.device().is_cpu() || gpu::of(tensor).is_some() {
        return Ok(());
    }
    Err(Error::Device { op, device: format!("{:?}", tensor.device()) })
}

/// The ids of `rows` tokens, all below `vocab`, contiguous on their device.
pub(crate) fn device_ids(
    gpu: &Gpu,
    op: &'static str,
    ids: &Tensor,
    rows: usize,
    vocab: usize,
) -> Result<Tensor> {
    check_ids_tensor(op, ids, rows)?;
    let ids = ids.contiguous()?;
    gpu::check_ids(gpu, op, &ids, vocab)?;
    Ok(ids)
}

fn check_ids_tensor(op: &'static str, ids: &Tensor, rows: usize) -> Result<()> {
    shape::expect(op, "ids", ids, &[rows], "[T]")?;
    match ids.dtype() {
        DType::U32 => Ok(()),
        got => Err(Error::DType { op, what: "ids", got, remedy: "token ids are u32" }),
    }
}

pub(crate) fn check_temperature(op: &'static str, temperature: f64) -> Result<()> {
    if temperature.is_finite() && temperature > 0.0 {
        return Ok(());
    }
    let expected = "a finite number above 0";
    Err(Error::Setting { op, what: "temperature", expected, got: temperature })
}

/// Rows and width of a matrix.
pub(crate) fn matrix(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    tensor.dims2().map_err(|_| Error::Shape {
        op,
        what,
        expected: "a matrix".into(),
        got: tensor.dims().to_vec(),
    })
}

/// The ids of `rows` tokens, all below `vocab`.
pub(crate) fn token_ids(
    op: &'static str,
    ids: &Tensor,
    rows: usize,
    vocab: usize,
) -> Result<Vec<u32>> {
    check_ids_tensor(op, ids, rows)?;
    let ids = ids.to_vec1::<u32>()?;
    cpu::check_ids(op, &ids, vocab)?;
    Ok(ids)
}

struct Op {
    ids: Vec<u32>,
    temperature: f64,
}

impl Op {
    fn rows(&self, width: usize) -> TokenRows<'_> {
        TokenRows { ids: &self.ids, width, temperature: self.temperature }
    }

    fn forward(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        by_dtype!(OP, logits, T => {
            let mut out = Columns::<T, STATISTICS>::new(rows);
            self.rows(width).forward(&mut out, 0, argument(OP, logits, layout)?);
            Ok(out.into_storage())
        })
    }

    fn backward(&self, logits: &Tensor, saved: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        let (_, width) = logits.dims2()?;
        let upstream = upstream.contiguous()?;
        by_dtype!(OP, logits, T => {
            let logits_view = cpu::view::<T>(OP, logits)?;
            let (saved, upstream) = (cpu::view::<T>(OP, saved)?, cpu::view::<T>(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            let mut out = vec![0.0 as T; logits_view.len()];
            self.rows(width).backward(&mut out, 0, Some(&logits_view), saved, upstream);
            cpu::tensor(out, logits.shape())
        })
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.forward(logits, layout)?)
    }

    fn bwd(
        &self,
        logits: &Tensor,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.backward(logits, saved, upstream)?))
    }
}
