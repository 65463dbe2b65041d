use std::{path::Path, sync::Arc};

use opd_models::CausalLm;
use opd_teacher::InProcessTeacher;

use crate::{Result, student};

/// Directory of a checkpoint that holds the averaged weights, a model of its own.
const TEACHER: &str = "teacher";

/// A teacher whose weights follow the student's.
///
/// ```text
/// teacher <- decay teacher + (1 - decay) student        after every step
/// ```
///
/// It starts as the student before training. Of a student with adapters these are averaged, each
/// factor by itself; the weights below are shared.
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

    pub(crate) fn save(&self, checkpoint: &Path, shard_bytes: u64) -> Result<()> {
        student::save(self.teacher.model(), &checkpoint.join(TEACHER), shard_bytes)
    }

    pub(crate) fn load(&self, checkpoint: &Path) -> Result<()> {
        student::reload(self.teacher.model(), &checkpoint.join(TEACHER))
    }
}
