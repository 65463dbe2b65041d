#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use candle_core as candle;
pub use opd_advantage as advantage;
pub use opd_batch as batch;
pub use opd_kernels as kernels;
pub use opd_loss as loss;

pub use opd_batch::{ScoreRequest, Teacher, TeacherScores};
