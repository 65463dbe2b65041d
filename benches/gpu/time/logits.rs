use candle_core::{Result, Tensor, Var};
use opd_kernels::{
    Divergence, Softmax, TokenOptions, divergence, row_divergence_loss, row_loss, token_scores,
};

use super::{Clock, Floor, Sizes};
use crate::{
    memory::bytes,
    numbers::{ids, normal},
};

pub(super) fn all(clock: &Clock<'_>, Sizes { rows, vocab, .. }: Sizes) -> Result<()> {
    let device = clock.device;
    let targets = ids(rows, vocab)?.to_device(device)?;
    let logits = normal(device, &[rows, vocab], 3.0)?;
    let var = Var::from_tensor(&logits)?;
    let one = bytes(std::slice::from_ref(&logits));
    let matrices = |n: f64| Floor::bytes(n * one as f64);
    let plain = TokenOptions::default();
    clock.time("token_scores forward", matrices(1.0).goal(0.82), 0, || {
        token_scores(&logits, &targets, &plain)?;
        Ok(())
    })?;
    let softmax = Softmax { temperature: 1.0, soft_cap: Some(30.0) };
    for (name, options) in [
        ("token_scores and entropy forward", TokenOptions { entropy: true, ..plain }),
        ("token_scores and 8 likeliest forward", TokenOptions { top_k: 8, ..plain }),
        ("token_scores under a cap forward", TokenOptions { softmax, ..plain }),
    ] {
        clock.time(name, matrices(1.0), 0, || {
            token_scores(&logits, &targets, &options)?;
            Ok(())
        })?;
    }
    let name = "log-probs forward + backward in place (row_loss)";
    clock.time_with(
        name,
        matrices(3.0).goal(2.6),
        0,
        || logits.copy(),
        |given| {
            row_loss(given, &targets, 1.0, |row| row.logprobs.sum_all())?;
            Ok(())
        },
    )?;
    // candle adds the gradient to zeros: four more matrices.
    let name = "token_scores forward + backward through candle";
    clock.time(name, matrices(7.0), one, || {
        token_scores(&var, &targets, &plain)?.logprobs.sum_all()?.backward()?;
        Ok(())
    })?;
    drop(var);
    let teacher = normal(device, &[rows, vocab], 3.0)?;
    for (name, kind, forward, both) in [
        ("reverse KL", Divergence::ReverseKl, 1.66, 4.3),
        ("forward KL", Divergence::ForwardKl, 1.66, 4.3),
        ("JSD", Divergence::Jsd { beta: 0.5 }, 3.3, 6.2),
    ] {
        let passes = if name == "JSD" { 4.0 } else { 2.0 };
        let of = format!("{name} forward (divergence)");
        clock.time(&of, matrices(passes).goal(forward), 0, || {
            divergence(&logits, &teacher, &targets, kind, 1.0)?;
            Ok(())
        })?;
        let of = format!("{name} forward + backward in place (row_divergence_loss)");
        let sum = |given: Tensor| -> Result<()> {
            row_divergence_loss(given, &teacher, &targets, kind, 1.0, |tokens| {
                tokens.divergence.sum_all()
            })?;
            Ok(())
        };
        clock.time_with(&of, matrices(passes + 3.0).goal(both), 0, || logits.copy(), sum)?;
    }
    let var = Var::from_tensor(&logits)?;
    clock.time("reverse KL forward + backward through candle", matrices(9.0), one, || {
        let out = divergence(&var, &teacher, &targets, Divergence::ReverseKl, 1.0)?;
        out.divergence.sum_all()?.backward()?;
        Ok(())
    })
}
