//! Objectives: from hidden states and head to one loss and its metrics.

mod cross_entropy;
mod cross_vocabulary;
mod divergence;
mod inputs;
mod metric;
mod mini_llm;
mod output;
mod policy;
mod support;
mod top_k;
mod trained;

use crate::Result;

pub use self::{
    cross_entropy::CrossEntropy,
    cross_vocabulary::CrossVocabularyObjective,
    divergence::DivergenceObjective,
    inputs::{ObjectiveInputs, TeacherStates},
    metric::Metric,
    mini_llm::MiniLlm,
    output::ObjectiveOutput,
    policy::PolicyObjective,
    support::{Direction, Tail, support_kl},
    top_k::{Support, TopKObjective},
};

/// What an objective must be given beside the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// [`ObjectiveInputs::teacher`]: the teacher's hidden states and head.
    pub teacher_distribution: bool,
    /// [`LossBatch::teacher_top`](crate::LossBatch::teacher_top) with this many ids, or
    /// [`ObjectiveInputs::teacher`] instead.
    pub teacher_top: Option<usize>,
    /// [`LossBatch::reference_logprobs`](crate::LossBatch::reference_logprobs).
    pub reference_logprobs: bool,
}

/// From the model's last hidden states to the loss of a micro-batch.
///
/// An objective sees hidden states and the head, never logits: which fused kernel turns them
/// into log-probs or divergences is its own affair.
pub trait Objective: std::fmt::Debug + Send + Sync {
    /// Name for logs and reports.
    fn name(&self) -> &str;

    /// What the caller must provide.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Loss and metrics of a micro-batch.
    ///
    /// The loss is weighted by the global batch's counts: losses, and gradients, of the
    /// micro-batches add up to those of the batch.
    ///
    /// # Errors
    ///
    /// [`Error::NoGradient`](crate::Error::NoGradient) if neither hidden states nor head carry
    /// a graph; [`Error::NotFinite`](crate::Error::NotFinite) naming value, row and token;
    /// [`Error::MissingTeacher`](crate::Error::MissingTeacher) or a missing stream, if
    /// [`Self::needs`] was not heeded.
    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput>;
}

impl<O: Objective + ?Sized> Objective for Box<O> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        (**self).compute(inputs)
    }
}
