use candle_core::{Device, Result, Tensor, Var};
use opd_kernels::{
    Divergence, DivergenceOutput, TokenLogprobs, divergence, reference, row_divergence_loss,
    row_loss, token_logprobs,
};

use super::{Part, Sizes, followed, report, sample};
use crate::numbers::{ids, normal, rows};

const TEMPERATURE: f64 = 0.9;

fn token_loss(tokens: &TokenLogprobs) -> Result<Tensor> {
    tokens.logprobs.sum_all()? + (tokens.entropy.sum_all()? * 0.5)?
}

fn divergence_loss(tokens: &DivergenceOutput) -> Result<Tensor> {
    let rest = (tokens.student_entropy.sum_all()? * 0.1)?;
    (tokens.divergence.sum_all()? + rest)? + (tokens.student_logprobs.sum_all()? * 0.2)?
}

fn gradient(of: &Tensor, by: &Tensor) -> Result<Tensor> {
    Ok(of.backward()?.get(by).unwrap().clone())
}

pub(super) fn all(device: &Device, sizes: Sizes) -> Result<usize> {
    let Sizes { rows: n, vocab, .. } = sizes;
    let (chosen, all_ids) = (sample(n), ids(n, vocab)?);
    let chosen_ids: Vec<u32> = all_ids.to_vec1()?;
    let chosen_ids: Vec<u32> = chosen.iter().map(|row| chosen_ids[*row]).collect();
    let chosen_ids = Tensor::from_slice(&chosen_ids, chosen.len(), &Device::Cpu)?;
    let targets = all_ids.to_device(device)?;
    let mut failures = 0;
    let logits = normal(device, &[n, vocab], 3.0)?;
    let student = Var::from_tensor(&rows(&logits, &chosen)?)?;
    {
        let want = reference::token_logprobs(&student, &chosen_ids, TEMPERATURE)?;
        let want_gradient = gradient(&token_loss(&want)?, &student)?;
        let parts = |got: &TokenLogprobs, of: &Tensor| -> Result<Vec<Part>> {
            Ok(vec![
                Part::wide("logprobs", rows(&got.logprobs, &chosen)?, want.logprobs.clone()),
                Part::wide("lse", rows(&got.lse, &chosen)?, want.lse.clone()),
                Part::wide("entropy", rows(&got.entropy, &chosen)?, want.entropy.clone()),
                Part::rounded("dlogits", rows(of, &chosen)?, want_gradient.clone()),
            ])
        };
        let var = Var::from_tensor(&logits)?;
        let ((out, dlogits), extra) = followed(device, || {
            let out = token_logprobs(&var, &targets, TEMPERATURE)?;
            let dlogits = gradient(&token_loss(&out)?, &var)?;
            Ok(((out, dlogits.clone()), vec![dlogits]))
        })?;
        failures += report("token_logprobs", Some(extra), &parts(&out, &dlogits)?)?;
        drop((var, dlogits));
        let given = logits.copy()?;
        let (out, extra) =
            followed(device, || Ok((row_loss(given, &targets, TEMPERATURE, token_loss)?, vec![])))?;
        failures += report("row_loss", Some(extra), &parts(&out.tokens, &out.gradient)?)?;
    }
    let far = normal(device, &[n, vocab], 3.0)?;
    failures += divergences(device, (&logits, &far), (&targets, &chosen_ids), "", &chosen)?;
    drop(far);
    // Most logits the same, the rest one or two places of bf16 apart.
    let near = (&logits + normal(device, &[n, vocab], 0.004)?)?;
    failures += divergences(device, (&logits, &near), (&targets, &chosen_ids), ", near", &chosen)?;
    Ok(failures)
}

fn divergences(
    device: &Device,
    (logits, teacher): (&Tensor, &Tensor),
    (targets, chosen_ids): (&Tensor, &Tensor),
    which: &str,
    chosen: &[usize],
) -> Result<usize> {
    let mut failures = 0;
    let student = Var::from_tensor(&rows(logits, chosen)?)?;
    let theirs = rows(teacher, chosen)?;
    for kind in [
        Divergence::ReverseKl,
        Divergence::ForwardKl,
        Divergence::Jsd { beta: 0.5 },
        Divergence::SkewForwardKl { alpha: 0.1 },
        Divergence::SkewReverseKl { alpha: 0.1 },
    ] {
        let want = reference::divergence(&student, &theirs, chosen_ids, kind, TEMPERATURE)?;
        let want_gradient = gradient(&divergence_loss(&want)?, &student)?;
        let parts = |got: &DivergenceOutput, of: &Tensor| -> Result<Vec<Part>> {
            let of_teacher = rows(&got.teacher_logprobs, chosen)?;
            let mut parts = vec![
                Part::wide("divergence", rows(&got.divergence, chosen)?, want.divergence.clone()),
                Part::wide(
                    "entropy",
                    rows(&got.student_entropy, chosen)?,
                    want.student_entropy.clone(),
                ),
                Part::wide(
                    "logprobs",
                    rows(&got.student_logprobs, chosen)?,
                    want.student_logprobs.clone(),
                ),
                Part::wide("teacher", of_teacher, want.teacher_logprobs.clone()),
                Part::rounded("dlogits", rows(of, chosen)?, want_gradient.clone()),
            ];
            if !which.is_empty() {
                // Relative to a small divergence.
                parts[0].tolerance = 1e-3;
            }
            Ok(parts)
        };
        let name = format!("{kind:?}{which}");
        let var = Var::from_tensor(logits)?;
        let ((out, dlogits), extra) = followed(device, || {
            let out = divergence(&var, teacher, targets, kind, TEMPERATURE)?;
            let dlogits = gradient(&divergence_loss(&out)?, &var)?;
            Ok(((out, dlogits.clone()), vec![dlogits]))
        })?;
        failures += report(&format!("divergence {name}"), Some(extra), &parts(&out, &dlogits)?)?;
        drop((var, dlogits));
        let given = logits.copy()?;
        let (out, extra) = followed(device, || {
            let out =
                row_divergence_loss(given, teacher, targets, kind, TEMPERATURE, divergence_loss)?;
            Ok((out, vec![]))
        })?;
        let of_row = parts(&out.tokens, &out.gradient)?;
        failures += report(&format!("row_divergence_loss {name}"), Some(extra), &of_row)?;
    }
    Ok(failures)
}
