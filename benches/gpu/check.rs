use candle_core::{DType, Device, Result, Tensor, Var};
use opd_kernels::{
    AdamWStep, Divergence, Head, HeadNorms, Heads, Products, Projection, RotaryTable, Softmax,
    Spans, TokenOptions, adamw_step, add_rms_norm, attention, attention_backward, divergence,
    embedding, linear_divergence, linear_row_loss, linear_support_logprobs, linear_token_logprobs,
    linear_token_scores, linear_total_variation, rms_norm_backward, rotate_heads,
    rotate_heads_backward, scatter_add_rows, sum_of_squares, swiglu, swiglu_backward,
    token_logprobs, token_scores,
};

use crate::numbers::{ids, tensor};

/// A kernel's results on one device, from inputs that `at` brings there.
type Work = fn(at: &At<'_>) -> Result<Vec<Tensor>>;

/// Where work is done, and in what dtype.
struct At<'a> {
    device: &'a Device,
    dtype: DType,
    /// The dtype that inputs are rounded to.
    rounded: DType,
}

impl At<'_> {
    fn tensor(&self, dims: &[usize], seed: u64, scale: f32) -> Result<Tensor> {
        tensor(dims, seed, scale, self.rounded)?.to_dtype(self.dtype)?.to_device(self.device)
    }

    fn var(&self, dims: &[usize], seed: u64, scale: f32) -> Result<Var> {
        Var::from_tensor(&self.tensor(dims, seed, scale)?)
    }

    fn ids(&self, n: usize, vocab: usize) -> Result<Tensor> {
        ids(n, vocab)?.to_device(self.device)
    }
}

/// The parts, and the gradients of the sum of all of them.
fn with_gradients(parts: Vec<Tensor>, of: &[&Var]) -> Result<Vec<Tensor>> {
    let sums = parts.iter().map(Tensor::sum_all).collect::<Result<Vec<_>>>()?;
    let store = Tensor::stack(&sums, 0)?.sum_all()?.backward()?;
    let gradients = of.iter().map(|var| store.get(var.as_tensor()).unwrap().clone());
    Ok(parts.into_iter().chain(gradients).collect())
}

const KERNELS: [(&str, Work); 10] = [
    ("token_logprobs", |at| {
        let logits = at.var(&[64, 151_936], 1, 8.0)?;
        let out = token_logprobs(&logits, &at.ids(64, 151_936)?, 0.9)?;
        with_gradients(vec![out.logprobs, out.lse, out.entropy], &[&logits])
    }),
    ("token_scores", |at| {
        let logits = at.var(&[64, 151_936], 1, 8.0)?;
        let named = at.ids(64 * 8, 151_936)?.reshape((64, 8))?;
        let softmax = Softmax { temperature: 0.9, soft_cap: Some(30.0) };
        let options =
            TokenOptions { softmax, entropy: true, named: Some(&named), ..TokenOptions::default() };
        let out = token_scores(&logits, &at.ids(64, 151_936)?, &options)?;
        let parts = [Some(out.logprobs), Some(out.lse), out.entropy, out.named];
        let mut all = with_gradients(parts.into_iter().flatten().collect(), &[&logits])?;
        // Ranks are those of the rounded logits on either side.
        let options = TokenOptions { argmax: true, top_k: 20, ..TokenOptions::default() };
        let out = token_scores(&logits, &at.ids(64, 151_936)?, &options)?;
        all.extend(out.top.into_iter().flat_map(|top| [top.ids, top.logprobs]));
        Ok(all.into_iter().chain(out.argmax).collect())
    }),
    ("divergence", |at| {
        let (student, teacher) =
            (at.var(&[32, 151_936], 1, 6.0)?, at.tensor(&[32, 151_936], 2, 6.0)?);
        let ids = at.ids(32, 151_936)?;
        let mut all = Vec::new();
        for kind in [Divergence::ForwardKl, Divergence::ReverseKl, Divergence::Jsd { beta: 0.5 }] {
            let out = divergence(&student, &teacher, &ids, kind, 1.1)?;
            all.extend(with_gradients(vec![out.divergence, out.student_entropy], &[&student])?);
        }
        Ok(all)
    }),
    ("linear heads", |at| {
        let (hidden, head) = (at.var(&[300, 256], 1, 0.5)?, at.var(&[32_001, 256], 2, 0.5)?);
        let (their_hidden, their_head) =
            (at.tensor(&[300, 128], 3, 0.5)?, at.tensor(&[32_001, 128], 4, 0.5)?);
        let ids = at.ids(300, 32_001)?;
        let of = [&hidden, &head];
        let out = linear_token_logprobs(&hidden, &head, &ids, 1.0)?;
        let mut all = with_gradients(vec![out.logprobs, out.entropy], &of)?;
        let loss = linear_row_loss(&hidden, &head, &ids, 1.0, |_, row| row.logprobs.sum_all())?;
        all.extend(with_gradients(vec![loss.loss], &of)?);
        let bias = at.var(&[32_001], 5, 1.0)?;
        let biased = Head::new(&head, Products::Full).with_bias(&bias);
        let out = linear_token_scores(&hidden, biased, &ids, &TokenOptions::default())?;
        all.extend(with_gradients(vec![out.logprobs], &[&hidden, &head, &bias])?);
        let student = Projection::new(&hidden, &head);
        let teacher = Projection::new(&their_hidden, &their_head);
        let out = linear_divergence(student, teacher, &ids, Divergence::ReverseKl, 1.0)?;
        all.extend(with_gradients(vec![out.divergence], &of)?);
        let out = linear_total_variation(student, teacher, &ids, 1.0)?;
        all.extend(with_gradients(vec![out.divergence], &of)?);
        let chosen = at.ids(300 * 8, 32_001)?.reshape((300, 8))?;
        let out = linear_support_logprobs(&hidden, &head, &chosen, 1.0)?;
        all.extend(with_gradients(vec![out.logprobs], &of)?);
        Ok(all)
    }),
    ("rms_norm", |at| {
        let dims = [2048, 4096];
        let [x, delta, dy] =
            [at.tensor(&dims, 1, 2.0)?, at.tensor(&dims, 2, 2.0)?, at.tensor(&dims, 3, 1.0)?];
        let weight = at.tensor(&[4096], 4, 1.0)?;
        let (sum, out) = add_rms_norm(&x, &delta, &weight, 1e-6)?;
        let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, Some(&delta), 1e-6)?;
        Ok(vec![sum, out, dx, dweight])
    }),
    ("rotate_heads", |at| {
        let heads = Heads { heads: 16, kv_heads: 8, head_dim: 128 };
        let frequencies: Vec<f64> = (0..64).map(|i| 1e4f64.powf(-f64::from(i) / 64.0)).collect();
        let table = RotaryTable::new(&frequencies, 4096, at.dtype, at.device)?;
        let qkv = at.tensor(&[1024, 32 * 128], 1, 2.0)?;
        let dy = at.tensor(&[1024, 32, 128], 2, 1.0)?;
        let (query, key) = (at.tensor(&[128], 3, 1.0)?, at.tensor(&[128], 4, 1.0)?);
        let norms = Some(HeadNorms { query: &query, key: &key, eps: 1e-6 });
        let positions = at.ids(1024, 4096)?;
        let out = rotate_heads(&qkv, heads, norms, &table, &positions)?;
        let back = rotate_heads_backward(&qkv, heads, norms, &table, &positions, &dy)?;
        let (query, key) = back.norms.unwrap();
        Ok(vec![out, back.qkv, query, key])
    }),
    ("attention", |at| {
        let heads = Heads { heads: 8, kv_heads: 2, head_dim: 128 };
        let spans = Spans::causal([700, 1, 333, 64]);
        let rows = spans.n_queries();
        let qkv = at.tensor(&[rows, heads.total(), 128], 1, 1.0)?;
        let (q, k, v) = (qkv.narrow(1, 0, 8)?, qkv.narrow(1, 8, 2)?, qkv.narrow(1, 10, 2)?);
        let out = attention(&q, &k, &v, &spans)?;
        let dout = at.tensor(&[rows, 8, 128], 2, 1.0)?;
        let gradient = attention_backward(&qkv, heads, &spans, &out, &dout)?;
        Ok(vec![out.out, out.lse, gradient])
    }),
    ("swiglu", |at| {
        let (gate_up, dy) = (at.tensor(&[512, 8192], 1, 6.0)?, at.tensor(&[512, 4096], 2, 1.0)?);
        Ok(vec![swiglu(&gate_up)?, swiglu_backward(&gate_up, &dy)?])
    }),
    ("embedding", |at| {
        let table = at.tensor(&[4096, 512], 1, 1.0)?;
        let (ids, rows) = (at.ids(3000, 4096)?, at.tensor(&[3000, 512], 2, 1.0)?);
        let sums = table.zeros_like()?;
        scatter_add_rows(&sums, &ids, &rows)?;
        Ok(vec![embedding(&table, &ids)?, sums])
    }),
    ("updates", |at| {
        let n = 3_000_000;
        let [p, g, m] =
            [at.tensor(&[n], 1, 1.0)?, at.tensor(&[n], 2, 1.0)?, at.tensor(&[n], 3, 1.0)?];
        let (p, m, v) = (p.copy()?, m.copy()?, g.sqr()?);
        let step = AdamWStep {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            weight_decay: 0.1,
            gradient_scale: 0.5,
            step: 4,
        };
        adamw_step(&p, &g, &m, &v, &step)?;
        let squares = Tensor::new(sum_of_squares(&g)? as f32 / n as f32, at.device)?;
        Ok(vec![p, m, v, squares])
    }),
];

/// Largest difference relative to the larger of 1 and the part's largest value.
fn difference(got: &Tensor, want: &Tensor) -> Result<f64> {
    let flat = |tensor: &Tensor| {
        tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()
    };
    let (got, want) = (flat(got)?, flat(want)?);
    let largest = want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
    let off = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
    // NaN counts as the worst.
    Ok(off.fold(0.0, |worst, off| if off <= worst { worst } else { off }) / largest)
}

/// Compares every kernel with the CPU's on the same values, and with itself; how many differ.
pub(crate) fn all(device: &Device, dtype: DType) -> Result<usize> {
    let tolerance = match dtype {
        DType::F32 => 3e-5,
        DType::F16 => 5e-3,
        _ => 3e-2,
    };
    let mut failures = 0;
    for (name, work) in KERNELS {
        let at = |device, dtype_there| At { device, dtype: dtype_there, rounded: dtype };
        let want = work(&at(&Device::Cpu, DType::F32))?;
        let (got, again) = (work(&at(device, dtype))?, work(&at(device, dtype))?);
        let mut worst = 0.0f64;
        let mut same = true;
        for ((got, again), want) in got.iter().zip(&again).zip(&want) {
            worst = worst.max(difference(got, want)?);
            same &= difference(got, again)? == 0.0;
        }
        let passed = worst <= tolerance && same;
        failures += usize::from(!passed);
        let line = serde_json::json!({
            "check": name, "dtype": format!("{dtype:?}"), "off": worst, "tolerance": tolerance,
            "same_again": same, "passed": passed,
        });
        println!("{line}");
    }
    Ok(failures)
}
