use candle_core::Device;
use clap::Args;

use crate::failure::Failure;

/// Where and how loudly a command works.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "This process")]
pub(crate) struct Compute {
    /// Where tensors live: `auto`, `cpu` or `cuda:N`
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
        ("auto" | "cpu", _) => Ok(Device::Cpu),
        (_, Some(Ok(number))) => cuda(name, number),
        _ => Err(Failure::usage(format!(
            "--device {name}: expected `auto`, `cpu` or `cuda:N`, e.g. `cuda:0`"
        ))),
    }
}

#[cfg(feature = "cuda")]
fn cuda(name: &str, number: usize) -> anyhow::Result<Device> {
    use anyhow::Context;
    Device::new_cuda(number).with_context(|| format!("--device {name}: cannot open it"))
}

#[cfg(not(feature = "cuda"))]
fn cuda(name: &str, _: usize) -> anyhow::Result<Device> {
    Err(Failure::usage(format!(
        "--device {name}: this `opd` was built without CUDA; use --device cpu, or build it with \
         `--features cuda`"
    )))
}
