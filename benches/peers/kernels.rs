//! One kernel at one size, timed on request: `kernels CASE SIZE`; `kernels --list` names both.
//!
//! Makes the inputs, runs once, prints the memory which that run took beyond them; then, for each
//! line on its input, runs so many times and prints the seconds of the fastest run. JSON lines.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, stdin},
    time::Instant,
};

use cap::Cap;
use mimalloc::MiMalloc;
use opd_benches::{Size, cases};
use serde_json::json;

/// Counts what is allocated; the allocator itself is that of `opd`.
#[global_allocator]
static ALLOCATOR: Cap<MiMalloc> = Cap::new(MiMalloc, usize::MAX);

fn main() -> candle_core::Result<()> {
    opd_kernels::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, size] = &arguments[..] else {
        list();
        return Ok(());
    };
    let case = cases().find(|case| case.name == name).expect("no such case: --list names them");
    let size = Size::all().into_iter().find(|known| known.name == size);
    let size = size.expect("no such size: --list names them");

    let mut work = (case.prepare)(&size)?;
    let before = ALLOCATOR.allocated();
    work()?;
    let extra = ALLOCATOR.max_allocated().saturating_sub(before);
    println!("{}", json!({ "extra_bytes": extra }));
    for line in stdin().lock().lines() {
        let runs: u32 = line?.trim().parse().expect("a number of runs");
        let mut best = f64::INFINITY;
        for _ in 0..runs {
            let start = Instant::now();
            work()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{}", json!({ "seconds": best }));
    }
    Ok(())
}

fn list() {
    let sizes = Size::all().map(|size| {
        json!({
            "name": size.name, "lengths": size.lengths, "vocab": size.vocab, "width": size.width,
            "inner": size.inner, "heads": size.heads.heads, "kv_heads": size.heads.kv_heads,
            "head_dim": size.heads.head_dim,
        })
    });
    let cases: Vec<&str> = cases().map(|case| case.name).collect();
    println!("{}", json!({ "cases": cases, "sizes": sizes }));
}
