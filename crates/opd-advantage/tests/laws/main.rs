//! Laws that hold on random ragged batches with masks, groups and missing scores.
#![allow(clippy::unwrap_used)]

mod combinators;
mod distillation;
mod groups;
mod isolation;
mod random;
mod returns;
