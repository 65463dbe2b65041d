//! TOML files: read strictly, with the nearest known key for each that is unknown.

mod check;
mod choices;
mod file;
mod nearest;
mod shape;

pub(crate) use self::{
    choices::choices,
    file::{load, parse},
    shape::Shape,
};
