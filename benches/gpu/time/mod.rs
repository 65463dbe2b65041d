//! Times of kernels at full size in bf16, beside what they should be on an H100.

mod heads;
mod layers;
mod logits;

use std::time::Instant;

use candle_core::{Device, Result};

use crate::{Sizes, memory};

/// What a kernel must move or compute, and the time that it should take.
#[derive(Clone, Copy, Default)]
struct Floor {
    bytes: f64,
    flops: f64,
    /// Milliseconds, on an H100 at full size.
    goal: Option<f64>,
    /// GiB beyond inputs and gradients.
    goal_gib: Option<f64>,
}

impl Floor {
    fn bytes(bytes: f64) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn flops(flops: f64) -> Self {
        Self { flops, ..Self::default() }
    }

    fn goal(self, ms: f64) -> Self {
        Self { goal: Some(ms), ..self }
    }
}

/// What is timed, on what device.
struct Clock<'a> {
    device: &'a Device,
    /// Whether sizes are those that the goals are of.
    full: bool,
}

impl Clock<'_> {
    /// Prints the best and the median time of `work`, and the bytes it takes beyond `kept`.
    fn time(
        &self,
        name: &str,
        floor: Floor,
        kept: usize,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        self.time_with(name, floor, kept, || Ok(()), |()| work())
    }

    /// As [`Self::time`], of work on what `prepare` makes, whose time is not counted.
    fn time_with<I>(
        &self,
        name: &str,
        floor: Floor,
        kept: usize,
        mut prepare: impl FnMut() -> Result<I>,
        mut work: impl FnMut(I) -> Result<()>,
    ) -> Result<()> {
        work(prepare()?)?;
        let input = prepare()?;
        let ((), peak) = memory::peak(self.device, || work(input))?;
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < 3 || (times.len() < 20 && start.elapsed().as_secs_f64() < 2.0) {
            let input = prepare()?;
            self.device.synchronize()?;
            let one = Instant::now();
            work(input)?;
            self.device.synchronize()?;
            times.push(one.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[times.len() / 2]);
        let (goal, goal_gib) = match self.full {
            true => (floor.goal, floor.goal_gib),
            false => (None, None),
        };
        let line = serde_json::json!({
            "time": name, "ms": best * 1e3, "median_ms": median * 1e3, "goal_ms": goal,
            "gib_beyond": peak.saturating_sub(kept) as f64 / (1u64 << 30) as f64, "goal_gib": goal_gib,
            "gb_per_s": floor.bytes / best / 1e9, "tflops": floor.flops / best / 1e12,
            "runs": times.len(),
        });
        println!("{line}");
        Ok(())
    }
}

/// Times every kernel.
pub(crate) fn all(device: &Device, sizes: Sizes) -> Result<()> {
    let clock = Clock { device, full: sizes.vocab > 100_000 };
    logits::all(&clock, sizes)?;
    heads::all(&clock, sizes)?;
    layers::all(&clock, sizes)
}
