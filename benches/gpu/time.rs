use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use opd_kernels::{
    AdamWStep, Divergence, Heads, Softmax, Spans, TokenOptions, adamw_step, attention,
    attention_backward, divergence, linear_row_loss, linear_token_logprobs, token_scores,
};

use crate::numbers::{ids, tensor};

/// Of the heads that are timed.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) vocab: usize,
    pub(crate) width: usize,
}

/// Prints the best and the median time of `work`, and what its floor in bytes or flops is.
fn time(
    device: &Device,
    name: &str,
    (bytes, flops): (f64, f64),
    mut work: impl FnMut() -> Result<()>,
) -> Result<()> {
    for _ in 0..2 {
        work()?;
    }
    device.synchronize()?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || (times.len() < 20 && start.elapsed().as_secs_f64() < 3.0) {
        let one = Instant::now();
        work()?;
        device.synchronize()?;
        times.push(one.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[times.len() / 2]);
    let line = serde_json::json!({
        "time": name, "ms": best * 1e3, "median_ms": median * 1e3, "runs": times.len(),
        "gb_per_s": bytes / best / 1e9, "tflops": flops / best / 1e12,
    });
    println!("{line}");
    Ok(())
}

/// Times every kernel at full size in bf16.
pub(crate) fn all(device: &Device, sizes: Sizes) -> Result<()> {
    let Sizes { rows, vocab, width } = sizes;
    let on =
        |dims: &[usize], seed, scale| tensor(dims, seed, scale, DType::BF16)?.to_device(device);
    let targets = ids(rows, vocab)?.to_device(device)?;
    let logits_bytes = 2.0 * rows as f64 * vocab as f64;
    {
        let logits = Var::from_tensor(&on(&[rows, vocab], 1, 8.0)?)?;
        let plain = TokenOptions::default();
        let softmax = Softmax { temperature: 1.0, soft_cap: Some(30.0) };
        for (name, options) in [
            ("token_logprobs forward", plain),
            ("token_logprobs and entropy forward", TokenOptions { entropy: true, ..plain }),
            ("token_logprobs and 8 likeliest forward", TokenOptions { top_k: 8, ..plain }),
            ("token_logprobs under a cap forward", TokenOptions { softmax, ..plain }),
        ] {
            time(device, name, (logits_bytes, 0.0), || {
                token_scores(&logits.as_detached_tensor(), &targets, &options)?;
                Ok(())
            })?;
        }
        time(device, "token_logprobs forward + backward", (3.0 * logits_bytes, 0.0), || {
            token_scores(&logits, &targets, &plain)?.logprobs.sum_all()?.backward()?;
            Ok(())
        })?;
        let teacher = on(&[rows, vocab], 2, 8.0)?;
        for (name, kind) in [
            ("reverse KL forward + backward", Divergence::ReverseKl),
            ("forward KL forward + backward", Divergence::ForwardKl),
            ("JSD forward + backward", Divergence::Jsd { beta: 0.5 }),
        ] {
            time(device, name, (5.0 * logits_bytes, 0.0), || {
                divergence(&logits, &teacher, &targets, kind, 1.0)?
                    .divergence
                    .sum_all()?
                    .backward()?;
                Ok(())
            })?;
        }
    }
    let product = 2.0 * rows as f64 * vocab as f64 * width as f64;
    {
        let hidden = Var::from_tensor(&on(&[rows, width], 1, 0.2)?)?;
        let head = Var::from_tensor(&on(&[vocab, width], 2, 0.2)?)?;
        time(device, "linear log-probs forward", (0.0, product), || {
            let (hidden, head) = (hidden.as_detached_tensor(), head.as_detached_tensor());
            linear_token_logprobs(&hidden, &head, &targets, 1.0)?;
            Ok(())
        })?;
        time(device, "linear log-probs, general form", (0.0, 4.0 * product), || {
            let out = linear_token_logprobs(&hidden, &head, &targets, 1.0)?;
            out.logprobs.sum_all()?.backward()?;
            Ok(())
        })?;
        time(device, "linear log-probs, known gradient", (0.0, 3.0 * product), || {
            linear_row_loss(&hidden, &head, &targets, 1.0, |_, row| row.logprobs.sum_all())?;
            Ok(())
        })?;
    }
    training(device, sizes)
}

fn training(device: &Device, Sizes { rows, width, .. }: Sizes) -> Result<()> {
    let heads = Heads { heads: 32, kv_heads: 8, head_dim: 128 };
    let spans = Spans::causal(vec![rows / 8; 8]);
    let dims = [spans.n_queries(), heads.total(), 128];
    let qkv = tensor(&dims, 1, 1.0, DType::BF16)?.to_device(device)?;
    let (q, k, v) = (qkv.narrow(1, 0, 32)?, qkv.narrow(1, 32, 8)?, qkv.narrow(1, 40, 8)?);
    let out = attention(&q, &k, &v, &spans)?;
    let dout = out.out.clone();
    let pairs = 8.0 * (rows as f64 / 8.0).powi(2) / 2.0 * 32.0 * 128.0;
    time(device, "attention forward", (0.0, 4.0 * pairs), || {
        attention(&q, &k, &v, &spans)?;
        Ok(())
    })?;
    time(device, "attention backward", (0.0, 10.0 * pairs), || {
        attention_backward(&qkv, heads, &spans, &out, &dout)?;
        Ok(())
    })?;
    let n = width * width * 4;
    let one = |seed| -> Result<Tensor> { tensor(&[n], seed, 0.1, DType::F32)?.to_device(device) };
    let (p, g, m, v) = (one(1)?, one(2)?, one(3)?, one(4)?.sqr()?);
    let step = AdamWStep {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        weight_decay: 0.1,
        gradient_scale: 1.0,
        step: 10,
    };
    time(device, "AdamW, f32", (28.0 * n as f64, 0.0), || Ok(adamw_step(&p, &g, &m, &v, &step)?))
}
