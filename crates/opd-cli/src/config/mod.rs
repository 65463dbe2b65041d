//! TOML files: read strictly, with the nearest known key for each that is unknown.

mod check;
mod choices;
mod file;
mod nearest;
#[cfg(test)]
mod reference;
mod shape;

pub(crate) use self::{
    choices::choices,
    file::{load, parse},
    nearest::nearest,
    shape::Shape,
};
