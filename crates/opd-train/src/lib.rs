#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod adamw;
mod assemble;
mod authors;
mod checkpointing;
mod collect;
pub mod config;
mod critic;
mod endings;
mod error;
mod evaluate;
mod evaluations;
mod finish;
mod job;
mod label_rollouts;
mod learning_rate;
pub mod lint;
mod micro_batches;
mod moving_average;
mod observer;
mod parts;
mod pass_at_k;
pub mod plan;
mod prompt_files;
mod prompt_reader;
mod prompts;
mod reference;
pub mod report;
mod rewards;
mod rollout_dump;
pub mod run;
mod scoring;
mod showcase;
mod sinks;
mod state;
mod stop_rules;
mod student;
mod supervised;
mod teacher_metrics;
mod teacher_prompts;
mod teacher_routes;
mod teachers;
mod trainer;
mod updates;
mod written;

pub use self::{
    adamw::AdamW,
    critic::{Critic, ValueTargets},
    endings::Endings,
    error::{Error, Result},
    evaluate::{Evaluator, wilson_interval},
    job::{Job, Outcome},
    learning_rate::LearningRate,
    micro_batches::micro_batches,
    moving_average::MovingAverage,
    observer::{Event, Observer},
    parts::Parts,
    pass_at_k::{pass_at_k, pass_at_k_interval},
    prompt_reader::PromptReader,
    prompts::{Prompt, TokenizedPrompts},
    rollout_dump::{DumpedRollout, RolloutDump},
    supervised::Supervised,
    teacher_metrics::TeacherNames,
    trainer::Trainer,
    written::Written,
};
