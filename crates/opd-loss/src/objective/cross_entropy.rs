use super::{
    Metric, Objective, ObjectiveInputs, ObjectiveOutput,
    metric::{host, of_policy},
};
use crate::{PolicyInputs, Result};

/// Supervised training: the negative log-prob of each target.
///
/// ```text
/// loss = -sum_t w_t student_logprob_t
/// ```
///
/// Metrics, means over trained tokens: `cross_entropy`, `entropy`; where known `kl_teacher`,
/// `kl_reference`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn name(&self) -> &str {
        "cross_entropy"
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        let batch = inputs.batch;
        let student = inputs.token_logprobs()?;
        let policy = PolicyInputs::new(&student.logprobs, batch)?;
        let loss = policy.aggregate("cross_entropy", &student.logprobs.neg()?)?;
        let each = host(&student.logprobs)?.into_iter().map(|logprob| Some(-logprob));
        let mut metrics = vec![Metric::over("cross_entropy", batch, each)];
        metrics.extend(of_policy(batch, &student.logprobs, &student.entropy)?);
        Ok(ObjectiveOutput {
            loss: loss.to_dtype(inputs.hidden.dtype())?,
            metrics,
            student_logprobs: student.logprobs.detach(),
            entropy: student.entropy.detach(),
        })
    }
}
