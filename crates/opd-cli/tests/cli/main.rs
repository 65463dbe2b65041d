//! The built `opd` as a user meets it: exit codes, messages, files.
#![allow(clippy::unwrap_used, missing_docs)]

mod adapters;
mod command;
mod configuration;
mod cross_tokenizer;
mod distillation;
mod evaluation;
mod generation;
mod hub;
mod input_faults;
mod linting;
mod mixing;
mod models;
mod own_teachers;
mod planning;
mod precision;
mod probing;
mod remote_teacher;
mod resumption;
mod scoring;
mod serving;
mod slime;
mod spoiled_jobs;
mod training;
mod usage;
