//! Kernels at full size in bf16, against definitions in f64 of some rows on the CPU.

mod heads;
mod logits;

use candle_core::{Device, Result, Tensor};

use crate::{Sizes, memory, numbers::difference};

/// What was computed, and what it should be.
struct Part {
    name: &'static str,
    got: Tensor,
    want: Tensor,
    /// Largest difference, relative to the part's largest value.
    tolerance: f64,
}

impl Part {
    /// Sums in f32.
    fn wide(name: &'static str, got: Tensor, want: Tensor) -> Self {
        Self { name, got, want, tolerance: 3e-6 }
    }

    /// Rounded to bf16.
    fn rounded(name: &'static str, got: Tensor, want: Tensor) -> Self {
        Self { name, got, want, tolerance: 4e-3 }
    }

    /// Products of operands that are rounded to bf16 on the way.
    fn product(name: &'static str, got: Tensor, want: Tensor) -> Self {
        Self { name, got, want, tolerance: 1e-2 }
    }
}

/// Rows that are compared.
fn sample(rows: usize) -> Vec<usize> {
    vec![0, 1, rows / 3, rows / 2 + 1, rows - 2, rows - 1]
}

/// Prints a line for the op, with the bytes it took beyond what it was given and what it gave back; 1 if it
/// failed.
fn report(op: &str, extra: Option<usize>, parts: &[Part]) -> Result<usize> {
    let mut passed = true;
    let mut errors = serde_json::Map::new();
    for Part { name, got, want, tolerance } in parts {
        let off = difference(got, want)?;
        passed &= off <= *tolerance;
        errors.insert((*name).into(), off.into());
    }
    let gib = extra.map(|bytes| bytes as f64 / (1u64 << 30) as f64);
    let line = serde_json::json!({
        "full": op, "off": errors, "gib_beyond": gib, "passed": passed,
    });
    println!("{line}");
    Ok(usize::from(!passed))
}

/// Runs `work`, which returns what the op gives back and the tensors that stay; the bytes it took beyond
/// those.
fn followed<R>(
    device: &Device,
    work: impl FnOnce() -> Result<(R, Vec<Tensor>)>,
) -> Result<(R, usize)> {
    let ((result, kept), peak) = memory::peak(device, work)?;
    Ok((result, peak.saturating_sub(memory::bytes(&kept))))
}

/// How many ops are off.
pub(crate) fn all(device: &Device, sizes: Sizes) -> Result<usize> {
    Ok(logits::all(device, sizes)? + heads::all(device, sizes)?)
}
