use candle_core::Device;
use clap::Args;

use crate::failure::Failure;

/// Where and how loudly a command works.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "This process")]
pub(crate) struct Compute {
    /// Where tensors live: `cpu`, `cuda:N` (an NVIDIA GPU), or `auto`: the first GPU if this `opd` was
    /// built with CUDA and there is one, else the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Threads to compute with [default: one per processor]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print results and errors alone
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl Compute {
    /// Sets up threads and log, and opens the device.
    pub(crate) fn start(&self) -> anyhow::Result<Device> {
        crate::log::start(self.quiet);
        let device = device(&self.device)?;
        // This thread is one of the pool's: otherwise every kernel would wake another and wait.
        let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
        match self.threads {
            Some(threads) => pool.num_threads(threads.into()).build_global()?,
            None => pool.build_global()?,
        }
        Ok(device)
    }
}

fn device(name: &str) -> anyhow::Result<Device> {
    let number = name.strip_prefix("cuda:").map(str::parse::<usize>);
    match (name, number) {
        ("auto", _) => Ok(first_gpu().unwrap_or(Device::Cpu)),
        ("cpu", _) => Ok(Device::Cpu),
        (_, Some(Ok(number))) => cuda(name, number),
        _ => Err(Failure::usage(format!(
            "--device {name}: expected `auto`, `cpu` or `cuda:N`, e.g. `cuda:0`"
        ))),
    }
}

#[cfg(feature = "cuda")]
fn cuda(name: &str, number: usize) -> anyhow::Result<Device> {
    use anyhow::Context;
    // One stream for all threads: a device of `new_cuda` gives each thread another, in no order.
    let device = Device::new_cuda_with_stream(number).with_context(|| {
        format!(
            "--device {name}: cannot open it; are there {} GPUs and a driver (`nvidia-smi`)?",
            number + 1
        )
    })?;
    if let Err(error) = opd_kernels::DeviceMemory::keep_freed(&device) {
        tracing::info!("memory that is freed on {name} goes back to its driver: {error}");
    }
    Ok(device)
}

#[cfg(feature = "cuda")]
fn first_gpu() -> Option<Device> {
    match cuda("auto", 0) {
        Ok(device) => Some(device),
        Err(error) => {
            tracing::info!("no GPU: {error:#}");
            None
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn first_gpu() -> Option<Device> {
    None
}

#[cfg(not(feature = "cuda"))]
fn cuda(name: &str, _: usize) -> anyhow::Result<Device> {
    Err(Failure::usage(format!(
        "--device {name}: this `opd` was built without CUDA; use --device cpu, or build it with \
         `--features cuda`"
    )))
}
