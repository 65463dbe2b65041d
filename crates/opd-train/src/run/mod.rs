//! A run's directory: what is in it, who may write to it, and how it survives being killed.
//!
//! | entry | type | written |
//! |---|---|---|
//! | `lock` | [`RunDir`] | held while a process works on the run |
//! | `config.toml` | [`write_atomically`] | once, before the first step |
//! | `metrics.jsonl` | [`Metrics`] | one line per step |
//! | `tensorboard/` | [`TensorBoard`] | one event file per start of the run |
//! | `wandb/` | [`Wandb`] | one record and more per step |
//! | `rollouts/step-N.jsonl` | [`RolloutDump`](crate::RolloutDump) | one file per dumped step |
//! | `checkpoints/step-N/` | [`CheckpointStore`] | aside, synced, renamed |
//! | `model/` | the caller | at the end |
//! | `critic/` | the caller | at the end, where there is a critic |
//! | `report.html` | [`crate::report::write`] | at the end |
//! | `summary.json` | [`Summary`] | last: a directory with one holds a finished run |
//!
//! Nothing here is ever half written: a file or directory appears under its name by one
//! rename, after its bytes have reached the disk. `metrics.jsonl` and event files grow by
//! whole records; a record torn by a kill is dropped on resuming.

mod checkpoint;
mod checkpoint_store;
mod directory;
mod durable;
mod error;
pub mod key;
mod lock;
mod manifest;
mod metrics;
mod protobuf;
mod sink;
mod step_metrics;
mod summary;
mod tensorboard;
mod tf_event;
mod tf_record;
mod wandb;

pub(crate) use self::sink::Sinks;
pub use self::{
    checkpoint::Checkpoint,
    checkpoint_store::CheckpointStore,
    directory::{Existing, RunDir},
    durable::write_atomically,
    error::{Error, Result},
    metrics::Metrics,
    sink::MetricSink,
    step_metrics::StepMetrics,
    summary::{Intervals, PassAt1, Seconds, Summary},
    tensorboard::TensorBoard,
    wandb::{Wandb, WandbRun},
};
