//! Ctrl-C: the first press asks to leave, the second one leaves.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

static PRESSED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first signal is only remembered; the next one ends the process with 130.
pub(crate) fn watch() -> io::Result<()> {
    let pressed = PRESSED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first press finds the flag not yet set.
        flag::register_conditional_shutdown(signal, 130, pressed.clone())?;
        flag::register(signal, pressed.clone())?;
    }
    Ok(())
}

/// Whether the user asked to leave.
pub(crate) fn pressed() -> bool {
    PRESSED.get().is_some_and(|pressed| pressed.load(Ordering::Relaxed))
}
