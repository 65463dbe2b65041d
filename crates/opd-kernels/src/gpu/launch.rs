use candle_core::Tensor;

use super::{Gpu, address};
use crate::Result;

/// One source file of kernels, compiled.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: &'static str,
    /// For compute capability 8.0; the driver compiles it for the GPU at hand.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) ptx: &'static str,
}

/// The module whose source is `cuda/NAME.cu`.
macro_rules! module {
    ($name:literal) => {
        $crate::gpu::Module {
            name: concat!("opd_", $name),
            ptx: include_str!(concat!("../../cuda/ptx/", $name, ".ptx")),
        }
    };
}
pub(crate) use module;

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) blocks: (usize, usize),
    /// Threads of a block; a multiple of 32, at most 1,024.
    pub(crate) threads: usize,
    /// Bytes of dynamic shared memory of a block, at most 99 KiB.
    pub(crate) shared: usize,
}

/// Values per thread below which a row gets fewer threads.
const VALUES_PER_THREAD: usize = 16;

/// Values of a block in loops that know no rows.
pub(crate) const VALUES_PER_BLOCK: usize = 1024;

impl Grid {
    /// One block for each of `rows` rows of `width` values.
    pub(crate) fn rows(rows: usize, width: usize) -> Self {
        let threads = width.div_ceil(VALUES_PER_THREAD).next_multiple_of(32).clamp(32, 512);
        Self { blocks: (rows, 1), threads, shared: 0 }
    }

    /// Blocks that share `values` values.
    pub(crate) fn values(values: usize) -> Self {
        Self { blocks: (values.div_ceil(VALUES_PER_BLOCK), 1), threads: 256, shared: 0 }
    }

    /// One block.
    pub(crate) fn one(threads: usize) -> Self {
        Self { blocks: (1, 1), threads, shared: 0 }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    /// Address of the first value, to read from.
    Read(&'a Tensor),
    /// As [`Arg::Read`], or a null pointer.
    Maybe(Option<&'a Tensor>),
    /// Address of the first value of a contiguous tensor, to write to.
    Write(&'a Tensor),
    /// A `long long`.
    Int(usize),
    /// A `double`.
    Float(f64),
}

/// Runs a kernel on the stream of its tensors. Nothing runs where there is no block.
///
/// The arguments must be those of the kernel, in its order; that is what makes this sound, and what
/// the tests on the host check.
pub(crate) fn launch(
    gpu: &Gpu,
    op: &'static str,
    module: &'static Module,
    kernel: &str,
    grid: Grid,
    args: &[Arg<'_>],
) -> Result<()> {
    if grid.blocks.0 == 0 || grid.blocks.1 == 0 {
        return Ok(());
    }
    // Every argument of a kernel has 8 bytes.
    let words = args.iter().map(|arg| {
        Ok(match *arg {
            Arg::Read(tensor) => address::read(op, tensor)?,
            Arg::Maybe(Some(tensor)) => address::read(op, tensor)?,
            Arg::Maybe(None) => 0,
            Arg::Write(tensor) => address::write(op, tensor)?,
            Arg::Int(value) => value as u64,
            Arg::Float(value) => value.to_bits(),
        })
    });
    let words = words.collect::<Result<Vec<u64>>>()?;
    match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda(device) => super::cuda::launch(device, module, kernel, grid, &words),
        #[cfg(any(test, feature = "cuda-host"))]
        Gpu::Host(library) => library.launch(op, (module, kernel), grid, words),
        #[cfg(not(any(test, feature = "cuda", feature = "cuda-host")))]
        _ => match *gpu {},
    }
}
