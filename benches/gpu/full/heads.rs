use candle_core::{DType, Device, Result, Tensor, Var};
use opd_kernels::{
    Divergence, DivergenceOutput, Projection, RowQuery, linear_divergence, linear_divergence_loss,
    linear_row_logprobs, linear_row_loss, linear_support_logprobs, linear_token_logprobs,
    linear_total_variation, reference,
};

use super::{Part, Sizes, followed, report, sample};
use crate::numbers::{exact, ids, normal, rows};

/// Ids of a row of `linear_support_logprobs`.
const SUPPORT: usize = 16;

/// Hidden states and heads of two models, and what f64 makes of some rows.
struct Models {
    hidden: Var,
    head: Var,
    their_hidden: Tensor,
    their_head: Tensor,
    targets: Tensor,
    chosen: Vec<usize>,
    /// Of the chosen rows, on the CPU in f64.
    chosen_ids: Tensor,
    rows: Var,
    their_logits: Tensor,
    exact_head: Tensor,
}

impl Models {
    fn new(device: &Device, Sizes { rows: n, vocab, width }: Sizes) -> Result<Self> {
        let scale = 3.0 / (width as f32).sqrt();
        let hidden = Var::from_tensor(&normal(device, &[n, width], 1.0)?)?;
        let head = Var::from_tensor(&normal(device, &[vocab, width], scale)?)?;
        let their_hidden = normal(device, &[n, width / 2], 1.0)?;
        let their_head = normal(device, &[vocab, width / 2], scale)?;
        let (targets, chosen) = (ids(n, vocab)?, sample(n));
        let all: Vec<u32> = targets.to_vec1()?;
        let chosen_ids: Vec<u32> = chosen.iter().map(|row| all[*row]).collect();
        let their_logits = rows(&their_hidden, &chosen)?.matmul(&exact(&their_head)?.t()?)?;
        Ok(Self {
            rows: Var::from_tensor(&rows(&hidden, &chosen)?)?,
            exact_head: exact(&head)?,
            chosen_ids: Tensor::from_slice(&chosen_ids, chosen.len(), &Device::Cpu)?,
            targets: targets.to_device(device)?,
            hidden,
            head,
            their_hidden,
            their_head,
            their_logits,
            chosen,
        })
    }

    fn student(&self) -> Projection<'_> {
        Projection::new(&self.hidden, &self.head)
    }

    fn teacher(&self) -> Projection<'_> {
        Projection::new(&self.their_hidden, &self.their_head)
    }

    /// Logits of the chosen rows.
    fn logits(&self) -> Result<Tensor> {
        self.rows.matmul(&self.exact_head.t()?)
    }

    fn of_rows(&self, tensor: &Tensor) -> Result<Tensor> {
        rows(tensor, &self.chosen)
    }

    /// The gradient of `loss` by the chosen rows' hidden states.
    fn rows_gradient(&self, loss: &Tensor) -> Result<Tensor> {
        Ok(loss.backward()?.get(self.rows.as_tensor()).unwrap().clone())
    }

    /// Gradients of `loss` by hidden states and head.
    fn gradients(&self, loss: &Tensor) -> Result<[Tensor; 2]> {
        let store = loss.backward()?;
        let of = |var: &Var| store.get(var.as_tensor()).unwrap().clone();
        Ok([of(&self.hidden), of(&self.head)])
    }

    /// The gradient of the sum of all log-probs by some rows of the head: `sum_t (1[v = id_t] - p_tv) h_t`
    /// with `p` from log-sum-exps that are checked elsewhere.
    fn head_rows_gradient(&self, lse: &Tensor, chosen: &[usize]) -> Result<Tensor> {
        let (hidden, head) = (exact(&self.hidden)?, rows(&self.head, chosen)?);
        let p = hidden.matmul(&head.t()?)?.broadcast_sub(&exact(lse)?.unsqueeze(1)?)?.exp()?;
        let ids: Vec<u32> = self.targets.to_vec1()?;
        let own =
            ids.iter().flat_map(|id| chosen.iter().map(move |v| f64::from(*v == *id as usize)));
        let own = Tensor::from_vec(own.collect::<Vec<f64>>(), p.shape(), &Device::Cpu)?;
        (own - p)?.t()?.matmul(&hidden)
    }
}

pub(super) fn all(device: &Device, sizes: Sizes) -> Result<usize> {
    let models = Models::new(device, sizes)?;
    let mut failures = log_probs(device, &models, sizes)?;
    failures += divergences(device, &models)?;
    failures += answers(&models, sizes)?;
    Ok(failures)
}

fn log_probs(device: &Device, models: &Models, sizes: Sizes) -> Result<usize> {
    let Models { hidden, head, targets, .. } = models;
    let want = reference::token_logprobs(&models.logits()?, &models.chosen_ids, 1.0)?;
    let want_rows = models.rows_gradient(&want.logprobs.sum_all()?)?;
    let whole = linear_token_logprobs(hidden, head, targets, 1.0)?;
    // Some of these are targets.
    let columns = [0, 7919 % sizes.vocab, sizes.vocab / 2, sizes.vocab - 1];
    let want_columns = models.head_rows_gradient(&whole.lse, &columns)?;
    let parts = |logprobs: &Tensor, lse: &Tensor, of: &[Tensor; 2]| -> Result<Vec<Part>> {
        Ok(vec![
            Part::wide("logprobs", models.of_rows(logprobs)?, want.logprobs.clone()),
            Part::wide("lse", models.of_rows(lse)?, want.lse.clone()),
            Part::product("dhidden", models.of_rows(&of[0])?, want_rows.clone()),
            Part::product("dhead", rows(&of[1], &columns)?, want_columns.clone()),
        ])
    };
    let ((out, gradients), extra) = followed(device, || {
        let out = linear_token_logprobs(hidden, head, targets, 1.0)?;
        let gradients = models.gradients(&out.logprobs.sum_all()?)?;
        Ok(((out, gradients.clone()), gradients.to_vec()))
    })?;
    let of_op = parts(&out.logprobs, &out.lse, &gradients)?;
    let mut failures = report("linear_token_logprobs", Some(extra), &of_op)?;
    drop(gradients);
    let ((out, gradients), extra) = followed(device, || {
        let out = linear_row_loss(hidden, head, targets, 1.0, |_, row| row.logprobs.sum_all())?;
        let ready = [out.hidden_gradient.clone().unwrap(), out.head_gradient.clone().unwrap()];
        Ok(((out, ready.clone()), ready.to_vec()))
    })?;
    let of_op = parts(&out.tokens.logprobs, &out.tokens.lse, &gradients)?;
    failures += report("linear_row_loss", Some(extra), &of_op)?;
    Ok(failures)
}

fn divergences(device: &Device, models: &Models) -> Result<usize> {
    let (student, teacher, targets) = (models.student(), models.teacher(), &models.targets);
    let mut failures = 0;
    let check =
        |op: &str, got: &DivergenceOutput, want: &DivergenceOutput, dhidden: &Tensor, extra| {
            let want_rows = models.rows_gradient(&want.divergence.sum_all()?)?;
            let of = |tensor: &Tensor| models.of_rows(tensor);
            let parts = [
                Part::wide("divergence", of(&got.divergence)?, want.divergence.clone()),
                Part::wide("entropy", of(&got.student_entropy)?, want.student_entropy.clone()),
                Part::wide("teacher", of(&got.teacher_logprobs)?, want.teacher_logprobs.clone()),
                Part::product("dhidden", of(dhidden)?, want_rows),
            ];
            report(op, Some(extra), &parts)
        };
    for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.5 }] {
        let want = reference::divergence(
            &models.logits()?,
            &models.their_logits,
            &models.chosen_ids,
            kind,
            1.0,
        )?;
        let ((out, dhidden), extra) = followed(device, || {
            let out = linear_divergence(student, teacher, targets, kind, 1.0)?;
            let [dhidden, dhead] = models.gradients(&out.divergence.sum_all()?)?;
            Ok(((out, dhidden.clone()), vec![dhidden, dhead]))
        })?;
        failures += check(&format!("linear_divergence {kind:?}"), &out, &want, &dhidden, extra)?;
        let (out, extra) = followed(device, || {
            let out = linear_divergence_loss(student, teacher, targets, kind, 1.0, |_, tokens| {
                tokens.divergence.sum_all()
            })?;
            let kept = [&out.hidden_gradient, &out.head_gradient].map(|of| of.clone().unwrap());
            Ok((out, kept.to_vec()))
        })?;
        let (name, dhidden) = (format!("linear_divergence_loss {kind:?}"), out.hidden_gradient);
        failures += check(&name, &out.tokens, &want, &dhidden.unwrap(), extra)?;
    }
    let log_p = reference::log_softmax(&models.logits()?, 1.0)?.0;
    let log_q = reference::log_softmax(&models.their_logits, 1.0)?.0;
    let gather = |of: &Tensor| of.gather(&models.chosen_ids.unsqueeze(1)?, 1)?.squeeze(1);
    let want = DivergenceOutput {
        divergence: ((log_p.exp()? - log_q.exp()?)?.abs()?.sum(1)? * 0.5)?,
        student_entropy: (log_p.exp()? * &log_p)?.sum(1)?.neg()?,
        student_logprobs: gather(&log_p)?,
        teacher_logprobs: gather(&log_q)?,
    };
    let ((out, dhidden), extra) = followed(device, || {
        let out = linear_total_variation(student, teacher, targets, 1.0)?;
        let [dhidden, dhead] = models.gradients(&out.divergence.sum_all()?)?;
        Ok(((out, dhidden.clone()), vec![dhidden, dhead]))
    })?;
    failures += check("linear_total_variation", &out, &want, &dhidden, extra)?;
    Ok(failures)
}

/// Log-probs of ids that the caller names.
fn answers(models: &Models, sizes: Sizes) -> Result<usize> {
    let Models { hidden, head, chosen, .. } = models;
    let log_p = reference::log_softmax(&models.logits()?, 1.0)?.0;
    let named: Vec<u32> =
        (0..sizes.rows * SUPPORT).map(|i| (i * 104_729 % sizes.vocab) as u32).collect();
    let support = Tensor::from_slice(&named, (sizes.rows, SUPPORT), hidden.device())?;
    let out = linear_support_logprobs(hidden, head, &support, 1.0)?;
    let of_chosen: Vec<u32> = chosen.iter().flat_map(|row| row_of(&named, *row)).copied().collect();
    let of_chosen = Tensor::from_vec(of_chosen, (chosen.len(), SUPPORT), &Device::Cpu)?;
    let want = log_p.gather(&of_chosen, 1)?;
    let [dhidden, _] = models.gradients(&out.logprobs.sum_all()?)?;
    let parts = [
        Part::wide("logprobs", models.of_rows(&out.logprobs)?, want.clone()),
        Part::product(
            "dhidden",
            models.of_rows(&dhidden)?,
            models.rows_gradient(&want.sum_all()?)?,
        ),
    ];
    let mut failures = report("linear_support_logprobs", None, &parts)?;
    // Every chunk of logits goes to the CPU: a few rows are enough.
    let few = Tensor::cat(
        &chosen.iter().map(|row| hidden.narrow(0, *row, 1)).collect::<Result<Vec<_>>>()?,
        0,
    )?;
    let queries: Vec<_> = chosen
        .iter()
        .map(|row| RowQuery { temperature: 1.0, ids: row_of(&named, *row), top: 0, rank: false })
        .collect();
    let answers = linear_row_logprobs(&few, head, &queries)?;
    let got: Vec<f32> = answers.into_iter().flat_map(|answer| answer.logprobs).collect();
    let got = Tensor::from_vec(got, (chosen.len(), SUPPORT), &Device::Cpu)?;
    let want = log_p.gather(&of_chosen, 1)?.to_dtype(DType::F64)?;
    failures += report("linear_row_logprobs", None, &[Part::wide("logprobs", got, want)])?;
    Ok(failures)
}

fn row_of(named: &[u32], row: usize) -> &[u32] {
    &named[row * SUPPORT..(row + 1) * SUPPORT]
}
