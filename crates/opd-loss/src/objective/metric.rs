use candle_core::{DType, Tensor};

use crate::{LossBatch, Result};

/// A mean in the making: metrics of micro-batches merge by adding both parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// What is measured; the unit is nats where it is an entropy or a divergence.
    pub name: &'static str,
    /// Sum over the trained tokens that have a value.
    pub sum: f64,
    /// Number of such tokens.
    pub count: f64,
}

impl Metric {
    /// The mean; 0 if nothing was counted.
    pub fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }

    /// Adds the metrics `more` to those of the same name in `into`; new names go to the end.
    pub fn merge(into: &mut Vec<Self>, more: &[Self]) {
        for metric in more {
            match into.iter_mut().find(|known| known.name == metric.name) {
                Some(known) => {
                    known.sum += metric.sum;
                    known.count += metric.count;
                }
                None => into.push(*metric),
            }
        }
    }

    /// Over the trained tokens of `batch`; `None` is a token without a value.
    pub(crate) fn over(
        name: &'static str,
        batch: &LossBatch,
        values: impl IntoIterator<Item = Option<f64>>,
    ) -> Self {
        let trained = values.into_iter().zip(batch.mask().values());
        let values = trained.filter_map(|(value, &trained)| value.filter(|_| trained));
        let (sum, count) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
        Self { name, sum, count }
    }
}

/// The values of a `[T]` tensor.
pub(crate) fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.detach().to_dtype(DType::F64)?.to_vec1()?)
}

/// What is known of every objective's policy: entropy, and the mean log-ratio of the sampled
/// tokens to the old policy, the reference and the teacher.
pub(crate) fn of_policy(
    batch: &LossBatch,
    student_logprobs: &Tensor,
    entropy: &Tensor,
) -> Result<Vec<Metric>> {
    let student = host(student_logprobs)?;
    let mut metrics = vec![Metric::over("entropy", batch, host(entropy)?.into_iter().map(Some))];
    if let Some(teacher) = batch.teacher_logprobs() {
        let pairs = student.iter().zip(teacher.values());
        let kl =
            pairs.map(|(student, teacher)| teacher.map(|teacher| student - f64::from(teacher)));
        metrics.push(Metric::over("kl_teacher", batch, kl));
    }
    if let Ok(reference) = batch.reference_logprobs("metrics") {
        let pairs = student.iter().zip(reference.values());
        let kl = pairs.map(|(student, reference)| Some(student - f64::from(*reference)));
        metrics.push(Metric::over("kl_reference", batch, kl));
    }
    Ok(metrics)
}
