use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{CircuitRules, backoff};

/// Whether an endpoint may be asked.
#[derive(Debug)]
pub(crate) struct Circuit {
    rules: CircuitRules,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Pauses in a row.
    pauses: u32,
    /// End of the pause; the circuit is closed without one.
    until: Option<Instant>,
    /// One request is finding out.
    probing: bool,
    /// First failure in a row.
    since: Option<Instant>,
    last: String,
}

/// What a circuit says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Go,
    /// Go, and be the one that finds out.
    Probe,
    /// Not before this time.
    Wait(Instant),
}

impl Circuit {
    pub(crate) fn new(rules: CircuitRules) -> Self {
        Self { rules, state: Mutex::default() }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().until.is_none()
    }

    /// Asks to enter; whoever gets [`Entry::Probe`] must report or call [`Self::abandon`].
    pub(crate) fn enter(&self, now: Instant) -> Entry {
        let mut state = self.state();
        match state.until {
            None => Entry::Go,
            Some(until) if now < until => Entry::Wait(until),
            Some(_) if state.probing => Entry::Wait(now + self.rules.pause),
            Some(_) => {
                state.probing = true;
                Entry::Probe
            }
        }
    }

    /// An answer came; returns for how long there was none, if the circuit was open.
    pub(crate) fn success(&self, now: Instant) -> Option<Duration> {
        let was = std::mem::take(&mut *self.state());
        was.until.and(was.since).map(|since| now.saturating_duration_since(since))
    }

    /// No answer came; returns the pause if the circuit opens by it.
    pub(crate) fn failure(&self, now: Instant, why: &str, seed: u64) -> Option<Duration> {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.since.get_or_insert(now);
        state.last = why.to_owned();
        let opens = match state.until {
            None => state.failures >= self.rules.failures.max(1),
            Some(until) => state.probing && now >= until,
        };
        if !opens {
            return None;
        }
        state.probing = false;
        state.pauses += 1;
        let pause = backoff::delay(self.rules.pause, self.rules.longest, state.pauses, seed);
        state.until = Some(now + pause);
        Some(pause)
    }

    /// The one that was to find out went away without a result.
    pub(crate) fn abandon(&self) {
        self.state().probing = false;
    }

    /// How long it has been failing, and the last failure, if the circuit is open.
    pub(crate) fn down(&self, now: Instant) -> Option<(Duration, String)> {
        let state = self.state();
        let since = state.until.and(state.since)?;
        Some((now.saturating_duration_since(since), state.last.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn circuit() -> Circuit {
        Circuit::new(CircuitRules { failures: 3, pause: PAUSE, longest: 4 * PAUSE })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (circuit, now) = (circuit(), Instant::now());
        for _ in 0..5 {
            assert_eq!(circuit.failure(now, "x", 0), None);
            assert_eq!(circuit.failure(now, "x", 0), None);
            assert_eq!(circuit.success(now), None);
        }
        assert_eq!(circuit.enter(now), Entry::Go);
        circuit.failure(now, "x", 0);
        circuit.failure(now, "x", 0);
        let pause = circuit.failure(now, "refused", 0).unwrap();
        assert!(pause >= PAUSE / 2 && pause < PAUSE);
        assert_eq!(circuit.enter(now), Entry::Wait(now + pause));
        let (down, last) = circuit.down(now + PAUSE).unwrap();
        assert_eq!((down, last.as_str()), (PAUSE, "refused"));
    }

    #[test]
    fn one_request_probes_and_its_result_counts() {
        let (circuit, start) = (circuit(), Instant::now());
        let mut pause = (0..3).filter_map(|_| circuit.failure(start, "x", 1)).next().unwrap();
        let mut now = start;
        for _ in 0..5 {
            now += pause;
            assert_eq!(circuit.enter(now), Entry::Probe);
            assert!(matches!(circuit.enter(now), Entry::Wait(_)), "only one probes");
            let longer = circuit.failure(now, "x", 1).unwrap();
            assert!(longer >= pause && longer <= 4 * PAUSE);
            pause = longer;
        }
        now += pause;
        assert_eq!(circuit.enter(now), Entry::Probe);
        circuit.abandon();
        assert_eq!(circuit.enter(now), Entry::Probe, "an abandoned probe leaves room for another");
        assert_eq!(circuit.success(now), Some(now - start));
        assert_eq!((circuit.enter(now), circuit.down(now)), (Entry::Go, None));
    }

    #[test]
    fn late_failures_do_not_lengthen_a_pause() {
        let (circuit, now) = (circuit(), Instant::now());
        let pause = (0..3).filter_map(|_| circuit.failure(now, "x", 1)).next().unwrap();
        for _ in 0..10 {
            assert_eq!(circuit.failure(now, "x", 1), None);
        }
        assert_eq!(circuit.enter(now), Entry::Wait(now + pause));
    }
}
