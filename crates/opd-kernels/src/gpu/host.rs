use std::{
    cell::Cell,
    env,
    ffi::{CString, c_char, c_int, c_uint, c_void},
    fs,
    hash::{DefaultHasher, Hasher},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use candle_core::{DType, WithDType};
use half::{bf16, f16};

use super::{Grid, Module, address::unknown, gemm::Call};
use crate::{Error, Result};

/// `opd_launch` of `cuda/host/library.cpp`.
type Launch = unsafe extern "C" fn(
    *const c_char,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    *mut *mut c_void,
    c_int,
) -> c_int;

/// The kernels, compiled for the CPU.
#[derive(Debug)]
pub(crate) struct Library {
    launch: Launch,
    _library: libloading::Library,
}

thread_local! {
    static ORDER: Cell<Option<c_int>> = const { Cell::new(None) };
}

/// Whether kernels on the host are asked for in this process.
fn always() -> bool {
    static ALWAYS: OnceLock<bool> = OnceLock::new();
    *ALWAYS.get_or_init(|| env::var_os("OPD_CUDA_HOST").is_some())
}

/// The library, if tensors on the CPU go through the GPU's kernels on this thread.
pub(crate) fn current() -> Option<&'static Library> {
    let asked = always() || ORDER.get().is_some();
    asked.then(|| match library() {
        Ok(library) => library,
        Err(why) => panic!("the kernels cannot run on the host: {why}"),
    })
}

/// Runs `work` with the GPU's kernels for tensors on the CPU. The threads of a block take turns
/// from the first to the last, or with `backwards` from the last.
#[cfg(test)]
pub(crate) fn run<R>(backwards: bool, work: impl FnOnce() -> R) -> R {
    let before = ORDER.replace(Some(c_int::from(backwards)));
    let result = work();
    ORDER.set(before);
    result
}

/// The library, compiled at its first use in a process; or why there is none.
pub(crate) fn library() -> std::result::Result<&'static Library, &'static str> {
    static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| Library::load(&compile()?));
    library.as_ref().map_err(String::as_str)
}

/// Compiles `cuda/host/library.cpp` unless that was done before; where the result is.
fn compile() -> std::result::Result<PathBuf, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let mut hasher = DefaultHasher::new();
    for dir in [sources.clone(), sources.join("include"), sources.join("host")] {
        let entries = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            hasher.write(&fs::read(file).map_err(|error| error.to_string())?);
        }
    }
    let name = format!("opd-kernels-{:016x}", hasher.finish());
    let done = env::temp_dir().join(format!("{name}.so"));
    if done.exists() {
        return Ok(done);
    }
    let compiler = env::var("CXX").unwrap_or_else(|_| "g++".into());
    let part = env::temp_dir().join(format!("{name}-{}.so", std::process::id()));
    let output = Command::new(&compiler)
        .args([
            "-std=c++17",
            "-O2",
            "-fPIC",
            "-shared",
            "-fno-strict-aliasing",
            "-fvisibility=hidden",
            "-o",
        ])
        .arg(&part)
        .arg(sources.join("host/library.cpp"))
        .output()
        .map_err(|error| format!("no C++ compiler `{compiler}`: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    fs::rename(&part, &done).map_err(|error| error.to_string())?;
    Ok(done)
}

impl Library {
    fn load(path: &Path) -> std::result::Result<Self, String> {
        // SAFETY: the library was compiled from this crate's sources; its initialisers only link
        // a list, and `opd_launch` has the type named here.
        unsafe {
            let library = libloading::Library::new(path).map_err(|error| error.to_string())?;
            let launch =
                *library.get::<Launch>(b"opd_launch").map_err(|error| error.to_string())?;
            Ok(Self { launch, _library: library })
        }
    }

    pub(super) fn launch(
        &self,
        op: &'static str,
        (module, kernel): (&Module, &str),
        grid: Grid,
        mut words: Vec<u64>,
    ) -> Result<()> {
        let name = CString::new(kernel).map_err(candle_core::Error::wrap)?;
        let mut arguments: Vec<*mut c_void> =
            words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let [x, y] = [grid.blocks.0 as c_uint, grid.blocks.1 as c_uint];
        let (threads, shared) = (grid.threads as c_uint, grid.shared as c_uint);
        let order = ORDER.get().unwrap_or(0);
        // SAFETY: `words` are the kernel's arguments as its caller lists them, addresses of tensors
        // that live until this returns and scalars, each of 8 bytes.
        let found = unsafe {
            (self.launch)(name.as_ptr(), x, y, threads, shared, arguments.as_mut_ptr(), order)
        };
        if found == 1 {
            return Ok(());
        }
        let device = format!("host ({kernel} of {} with {grid:?})", module.name);
        Err(Error::Device { op, device })
    }
}

/// What BLAS computes, entry by entry.
pub(super) fn gemm(
    op: &'static str,
    call: Call,
    dtypes: (DType, DType),
    (from, to): ([u64; 2], u64),
    add: bool,
) -> Result<()> {
    let run = match dtypes {
        (DType::F32, DType::F32) => columns::<f32, f32>,
        (DType::F64, DType::F64) => columns::<f64, f64>,
        (DType::BF16, DType::F32) => columns::<bf16, f32>,
        (DType::BF16, DType::BF16) => columns::<bf16, bf16>,
        (DType::F16, DType::F32) => columns::<f16, f32>,
        (DType::F16, DType::F16) => columns::<f16, f16>,
        (got, _) => return Err(unknown(op, got)),
    };
    run(call, from, to, add);
    Ok(())
}

fn columns<T: WithDType, C: WithDType>(call: Call, from: [u64; 2], to: u64, add: bool) {
    let Call { turned, sizes: [m, n, k], strides } = call;
    let [first, second] = from.map(|address| std::ptr::with_exposed_provenance(address as usize));
    let operand = |start: *const T, turned: bool, stride: usize, row: usize, col: usize| {
        let at = if turned { col + row * stride } else { row + col * stride };
        // SAFETY: inside a contiguous matrix of the sizes of the call.
        unsafe { *start.add(at) }.to_f64()
    };
    let out: *mut C = std::ptr::with_exposed_provenance_mut(to as usize);
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let term = |p| {
            operand(first, turned[0], strides[0], i, p)
                * operand(second, turned[1], strides[1], p, j)
        };
        let sum: f64 = (0..k).map(term).sum();
        // SAFETY: as above; nothing else refers to the result's memory while this runs.
        let entry = unsafe { &mut *out.add(i + j * strides[2]) };
        *entry = C::from_f64(sum + if add { entry.to_f64() } else { 0.0 });
    }
}
