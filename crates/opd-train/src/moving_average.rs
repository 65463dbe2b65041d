use std::{path::Path, sync::Arc};

use opd_models::CausalLm;
use opd_teacher::InProcessTeacher;

use crate::Result;

/// Directory of a checkpoint that holds the averaged weights, a model of its own.
const TEACHER: &str = "teacher";

/// A teacher whose weights follow the student's.
///
/// ```text
/// teacher <- decay teacher + (1 - decay) student        after every step
/// ```
///
/// It starts as the student before training.
///
/// Source: Tarvainen and Valpola 2017 (mean teacher), <https://arxiv.org/abs/1703.01780>.
#[derive(Clone, Debug)]
pub struct MovingAverage {
    /// The teacher, which scores and writes as any other.
    pub teacher: Arc<InProcessTeacher>,
    /// From 0 (the student itself) to 1 (it never moves).
    pub decay: f64,
}

impl MovingAverage {
    /// Takes one step after the student.
    ///
    /// # Errors
    ///
    /// If the two are models of different shapes.
    pub fn follow(&self, student: &CausalLm) -> Result<()> {
        let own = self.teacher.model().parameters().iter();
        for (own, its) in own.zip(student.parameters().iter()) {
            opd_kernels::moving_average(&own.tensor(), &its.tensor(), self.decay)?;
        }
        Ok(())
    }

    pub(crate) fn save(&self, checkpoint: &Path) -> Result<()> {
        Ok(self.teacher.model().save(checkpoint.join(TEACHER))?)
    }

    pub(crate) fn load(&self, checkpoint: &Path) -> Result<()> {
        Ok(self.teacher.model().reload(checkpoint.join(TEACHER))?)
    }
}
