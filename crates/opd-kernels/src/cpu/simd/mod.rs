#[cfg(test)]
mod tests;

use std::sync::LazyLock;

static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);

/// Runs `body` compiled for the widest vector instructions that this machine has.
///
/// `body` and what it calls must be `inline(always)`, closures included, or they are compiled for
/// the baseline.
#[inline(always)]
pub(crate) fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    arch().dispatch(body)
}

#[cfg(not(test))]
#[inline(always)]
fn arch() -> pulp::Arch {
    *ARCH
}

/// What a test has this thread use, if anything.
#[cfg(test)]
fn arch() -> pulp::Arch {
    tests::FORCED.get().unwrap_or(*ARCH)
}
