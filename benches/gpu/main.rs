//! On a machine with an NVIDIA GPU: every kernel against the CPU's, the large ones against f64 at full
//! size with the memory they take, and before that their times beside what they should be, as JSON lines.
//! `benches/gpu/run.sh` builds it, runs it beside its peers and sums up.
//!
//! `--quick` takes small sizes everywhere, `--checks` leaves the times out, `--times` the checks.
#![allow(clippy::unwrap_used)]

mod check;
mod full;
mod memory;
mod numbers;
mod time;

use candle_core::{DType, Device, Result};
use opd_kernels::DeviceMemory;

/// Of the heads and logits.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    vocab: usize,
    width: usize,
}

fn main() -> Result<()> {
    let device = Device::new_cuda_with_stream(0)?;
    DeviceMemory::keep_freed(&device)?;
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let sizes = match asked("--quick") {
        true => Sizes { rows: 512, vocab: 8192, width: 256 },
        false => Sizes { rows: 8192, vocab: 151_936, width: 4096 },
    };
    if let Device::Cuda(cuda) = &device {
        let name = cuda.cuda_stream().context().name().unwrap_or_default();
        let Sizes { rows, vocab, width } = sizes;
        println!("{}", serde_json::json!({ "gpu": name, "sizes": [rows, vocab, width] }));
    }
    if !asked("--checks") {
        time::all(&device, sizes)?;
    }
    let mut failures = 0;
    if !asked("--times") {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            failures += check::all(&device, dtype)?;
        }
        failures += full::all(&device, sizes)?;
    }
    if failures > 0 {
        eprintln!("{failures} checks failed");
        std::process::exit(1);
    }
    Ok(())
}
