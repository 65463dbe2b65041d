//! Every kernel against the CPU's on the same values, and against itself.

mod layers;
mod losses;
mod updates;

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::numbers::{difference, ids, tensor};

/// A kernel's results on one device, from inputs that `at` brings there.
type Work = fn(at: &At<'_>) -> Result<Vec<Tensor>>;

/// Where work is done, and in what dtype.
struct At<'a> {
    device: &'a Device,
    dtype: DType,
    /// The dtype that inputs are rounded to.
    rounded: DType,
}

impl At<'_> {
    fn tensor(&self, dims: &[usize], seed: u64, scale: f32) -> Result<Tensor> {
        tensor(dims, seed, scale, self.rounded)?.to_dtype(self.dtype)?.to_device(self.device)
    }

    fn var(&self, dims: &[usize], seed: u64, scale: f32) -> Result<Var> {
        Var::from_tensor(&self.tensor(dims, seed, scale)?)
    }

    fn ids(&self, n: usize, vocab: usize) -> Result<Tensor> {
        ids(n, vocab)?.to_device(self.device)
    }
}

/// The parts, and the gradients of the sum of all of them.
fn with_gradients(parts: Vec<Tensor>, of: &[&Var]) -> Result<Vec<Tensor>> {
    let sums = parts.iter().map(Tensor::sum_all).collect::<Result<Vec<_>>>()?;
    let store = Tensor::stack(&sums, 0)?.sum_all()?.backward()?;
    let gradients = of.iter().map(|var| store.get(var.as_tensor()).unwrap().clone());
    Ok(parts.into_iter().chain(gradients).collect())
}

/// How many kernels differ from the CPU's, or from themselves.
pub(crate) fn all(device: &Device, dtype: DType) -> Result<usize> {
    let tolerance = match dtype {
        DType::F32 => 3e-5,
        DType::F16 => 5e-3,
        _ => 3e-2,
    };
    let mut failures = 0;
    let kernels = losses::KERNELS.iter().chain(&layers::KERNELS).chain(&updates::KERNELS);
    for (name, work) in kernels {
        let start = Instant::now();
        let at = |device, dtype_there| At { device, dtype: dtype_there, rounded: dtype };
        let want = work(&at(&Device::Cpu, DType::F32))?;
        let (got, again) = (work(&at(device, dtype))?, work(&at(device, dtype))?);
        let mut worst = 0.0f64;
        let mut same = got.len() == want.len();
        for ((got, again), want) in got.iter().zip(&again).zip(&want) {
            let off = difference(got, want)?;
            // NaN stays.
            worst = if off <= worst { worst } else { off };
            same &= difference(got, again)? == 0.0;
        }
        let passed = worst <= tolerance && same;
        failures += usize::from(!passed);
        let line = serde_json::json!({
            "check": name, "dtype": format!("{dtype:?}"), "off": worst, "tolerance": tolerance,
            "same_again": same, "passed": passed, "seconds": start.elapsed().as_secs_f32(),
        });
        println!("{line}");
    }
    Ok(failures)
}
