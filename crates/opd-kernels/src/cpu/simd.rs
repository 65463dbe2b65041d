use std::sync::LazyLock;

static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);

/// Runs `body` compiled for the widest vector instructions that this machine has.
///
/// `body` and what it calls must be `inline(always)`, closures included, or they are compiled for
/// the baseline.
#[inline(always)]
pub(crate) fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    ARCH.dispatch(body)
}
