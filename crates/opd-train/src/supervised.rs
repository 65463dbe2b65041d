use opd_batch::RolloutBatch;
use opd_loss::{CrossEntropy, LossBatch, Metric, Objective, ObjectiveInputs};
use opd_models::Gradients;

use crate::{
    Error, Result, TokenizedPrompts, Trainer, checkpointing::checkpointing, micro_batches,
    scoring::sequences,
};

/// Supervised fine-tuning that is mixed into another loss.
#[derive(Clone, Debug)]
pub struct Supervised {
    /// Weight of the cross-entropy.
    pub coef: f64,
    /// Labels per step.
    pub prompts: usize,
    /// Prompts and labels; those of training without.
    pub data: Option<TokenizedPrompts>,
}

/// A step's labels, weighted as a batch of their own.
pub(crate) struct SupervisedBatch {
    coef: f64,
    batch: RolloutBatch,
    whole: LossBatch,
}

/// What a part of the labels came to.
pub(crate) struct SupervisedOutput {
    /// The weighted loss.
    pub(crate) loss: f64,
    pub(crate) metrics: Vec<Metric>,
}

impl Trainer {
    /// The labels of step `step`; `None` where nothing is mixed in.
    pub(crate) fn supervised(&self, step: u64) -> Result<Option<SupervisedBatch>> {
        let Some(Supervised { coef, prompts, data }) = &self.parts.supervised else {
            return Ok(None);
        };
        let data = data.as_ref().unwrap_or(&self.prompts);
        let labels = self.label_maker();
        let indices = self.taken(data, step, *prompts);
        let asked = data.get_all(indices)?;
        let rollouts = asked.iter().zip(0..).map(|(asked, group)| labels.rollout(group, asked));
        let batch = RolloutBatch::from_rollouts(rollouts.collect::<Result<_>>()?)?;
        let (targets, mask) = (batch.responses().clone(), batch.loss_mask().clone());
        let whole = LossBatch::supervised(targets, mask, &self.parts.aggregation)?;
        Ok(Some(SupervisedBatch { coef: *coef, batch, whole }))
    }

    /// Adds the gradients of part `part` of `parts`, as the updates of a batch cut it.
    pub(crate) fn add_supervised(
        &self,
        labels: &SupervisedBatch,
        part: usize,
        parts: usize,
        gradients: &mut Gradients,
    ) -> Result<SupervisedOutput> {
        let SupervisedBatch { coef, batch, whole } = labels;
        let n = batch.n_rows();
        let rows: Vec<usize> = (n * part / parts..n * (part + 1) / parts).collect();
        let mut all = SupervisedOutput { loss: 0.0, metrics: Vec::new() };
        if rows.is_empty() {
            return Ok(all);
        }
        let weighted = whole.part(&rows, &self.parts.aggregation)?;
        for run in micro_batches(batch, &rows, self.config.optimizer.token_budget) {
            let within: Vec<usize> = run.iter().map(|row| row - rows[0]).collect();
            let micro = weighted.select(&within)?;
            let packed = self.student.pack(&sequences(batch, &run))?;
            let checkpointing = checkpointing(&self.config.optimizer, &self.student, &packed);
            let output =
                self.student.differentiate(&packed, checkpointing, gradients, |hidden, head| {
                    let temperature = self.config.rollout.temperature;
                    let inputs =
                        ObjectiveInputs { hidden, head, temperature, batch: &micro, teacher: None };
                    let output = CrossEntropy.compute(&inputs)?;
                    Ok::<_, Error>(((&output.loss * *coef)?, output))
                })?;
            let loss = output.loss.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
            all.loss += coef * loss;
            let own = output.metrics.iter().filter(|metric| metric.name == "cross_entropy");
            let named: Vec<Metric> =
                own.map(|metric| Metric { name: "sft/cross_entropy", ..*metric }).collect();
            Metric::merge(&mut all.metrics, &named);
        }
        Ok(all)
    }
}
