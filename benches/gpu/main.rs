//! On a machine with an NVIDIA GPU: every kernel against the CPU's, then its time at full size, as
//! JSON lines. `benches/gpu/run.sh` builds it and runs it beside its peers.
#![allow(clippy::unwrap_used)]

mod check;
mod numbers;
mod time;

use candle_core::{DType, Device, Result};

fn main() -> Result<()> {
    let device = Device::new_cuda_with_stream(0)?;
    let quick = std::env::args().any(|argument| argument == "--quick");
    let sizes = match quick {
        true => time::Sizes { rows: 512, vocab: 8192, width: 256 },
        false => time::Sizes { rows: 8192, vocab: 151_936, width: 4096 },
    };
    let mut failures = 0;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        failures += check::all(&device, dtype)?;
    }
    time::all(&device, sizes)?;
    if failures > 0 {
        eprintln!("{failures} checks failed");
        std::process::exit(1);
    }
    Ok(())
}
