use std::sync::Arc;

use opd_advantage::{AdvantageEstimator, Truncation};
use opd_batch::Teacher;
use opd_loss::{Aggregation, Objective};
use opd_reward::{ExactMatch, Reward};
use opd_teacher::{DistributionTeacher, InProcessTeacher};

use crate::{MovingAverage, Supervised, TeacherNames};

/// The algorithm of a run, as traits: the trainer knows nothing else of it.
#[allow(missing_debug_implementations)]
pub struct Parts {
    /// Scores the samples, for estimators that read teacher log-probs.
    pub teacher: Option<Arc<dyn Teacher>>,
    /// Which of several teachers is for which prompts, for their metrics.
    pub teacher_names: TeacherNames,
    /// Gives whole distributions, for objectives that compare them.
    pub distribution: Option<Arc<dyn DistributionTeacher>>,
    /// Writes responses, where some are to be the teacher's.
    pub writer: Option<Arc<InProcessTeacher>>,
    /// The teacher, where its weights follow the student's.
    pub average: Option<MovingAverage>,
    /// Labels whose cross-entropy is added to the loss.
    pub supervised: Option<Supervised>,
    /// Judges responses.
    pub reward: Box<dyn Reward>,
    /// What becomes of responses that reached the token limit.
    pub truncation: Truncation,
    /// Turns scores and rewards into advantages.
    pub estimator: Box<dyn AdvantageEstimator>,
    /// Turns hidden states into a loss.
    pub objective: Box<dyn Objective>,
    /// How the losses of tokens become one number.
    pub aggregation: Aggregation,
}

impl Parts {
    /// Without a teacher: exact matches are rewarded, truncated responses kept, and losses
    /// averaged over tokens.
    pub fn new(
        estimator: impl AdvantageEstimator + 'static,
        objective: impl Objective + 'static,
    ) -> Self {
        Self {
            teacher: None,
            teacher_names: TeacherNames::default(),
            distribution: None,
            writer: None,
            average: None,
            supervised: None,
            reward: Box::new(ExactMatch),
            truncation: Truncation::Keep,
            estimator: Box::new(estimator),
            objective: Box::new(objective),
            aggregation: Aggregation::TokenMean,
        }
    }
}
