#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bad_rows;
mod data_files;
mod data_path;
mod error;
mod example;
mod fields;
#[cfg(test)]
mod fuzz;
mod jsonl;
mod page_source;
mod pages;
mod parquet;
mod prompt_set;
mod row;
mod spool;
mod token_spool;
mod turn;
mod used_rows;

pub use self::{
    bad_rows::{BadRow, BadRows},
    data_files::DataFiles,
    data_path::DataPath,
    error::{Error, Result},
    example::Example,
    fields::Fields,
    prompt_set::{PromptSet, count_rows},
    token_spool::TokenSpool,
    turn::Turn,
    used_rows::UsedRows,
};
