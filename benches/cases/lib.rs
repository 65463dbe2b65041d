//! What the benches of the kernels time: cases at the sizes of models and batches.
//!
//! `cargo bench --bench kernels` takes them all, `benches/peers/run.sh --kernels` beside PyTorch.

mod attention;
mod divergences;
mod layers;
mod linear;
mod logits;
mod numbers;
mod size;
mod updates;

pub use self::size::Size;

/// One run of a kernel on inputs that are there.
pub type Work = Box<dyn FnMut() -> candle_core::Result<()>>;

/// A kernel, and its inputs at any size.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `kernel/forward`, or `kernel/train` with the backward.
    pub name: &'static str,
    /// Bytes that any kernel must move from and to memory.
    pub bytes: fn(&Size) -> usize,
    /// Makes the inputs.
    pub prepare: fn(&Size) -> candle_core::Result<Work>,
}

/// Every case.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    let groups = [
        logits::CASES,
        linear::CASES,
        divergences::CASES,
        layers::CASES,
        attention::CASES,
        updates::CASES,
    ];
    groups.into_iter().flatten()
}
