//! `opd`: on-policy distillation from the command line.
#![forbid(unsafe_code)]

fn main() {}
