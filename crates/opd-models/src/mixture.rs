use candle_core::{DType, Tensor};
use opd_kernels::{embedding, scatter_add_rows, swiglu};

use crate::{Result, block::Matrix};

/// Experts, of which each token asks the few that a router likes best.
///
/// ```text
/// p    = softmax(router x)                           over all experts, in f64
/// y    = sum_{e in top k of p} w_e expert_e(x)       w = p, or p / sum_{top k} p
/// ```
///
/// A token's result depends on no other token: its experts are added in the order of their
/// numbers. There is a forward alone.
///
/// Source: transformers, `Qwen3MoeSparseMoeBlock`.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    pub(crate) router: Matrix,
    pub(crate) experts: Vec<Expert>,
    pub(crate) n_active: usize,
    pub(crate) normalized: bool,
}

/// One expert: `gate_up` is `[2 I, H]`, `down` is `[H, I]`.
#[derive(Clone, Debug)]
pub(crate) struct Expert {
    pub(crate) gate_up: Matrix,
    pub(crate) down: Matrix,
}

/// Tokens of one expert, and their weights for it.
#[derive(Default)]
struct Asked {
    tokens: Vec<u32>,
    weights: Vec<f64>,
}

impl Mixture {
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (device, dtype) = (x.device(), x.dtype());
        let out = x.zeros_like()?;
        for (expert, asked) in self.experts.iter().zip(self.route(x)?) {
            let n = asked.tokens.len();
            if n == 0 {
                continue;
            }
            let tokens = Tensor::from_vec(asked.tokens, n, device)?;
            let weights = Tensor::from_vec(asked.weights, (n, 1), device)?.to_dtype(dtype)?;
            let inner = swiglu(&expert.gate_up.forward(&embedding(x, &tokens)?)?)?;
            let y = expert.down.forward(&inner)?.broadcast_mul(&weights)?;
            scatter_add_rows(&out, &tokens, &y)?;
        }
        Ok(out)
    }

    fn route(&self, x: &Tensor) -> Result<Vec<Asked>> {
        let logits = self.router.forward(x)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let mut asked: Vec<Asked> = self.experts.iter().map(|_| Asked::default()).collect();
        for (token, logits) in logits.iter().enumerate() {
            let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|logit| (logit - greatest).exp()).collect();
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            order.truncate(self.n_active);
            let total: f64 = match self.normalized {
                true => order.iter().map(|&expert| weights[expert]).sum(),
                false => weights.iter().sum(),
            };
            for expert in order {
                asked[expert].tokens.push(token as u32);
                asked[expert].weights.push(weights[expert] / total);
            }
        }
        Ok(asked)
    }
}
