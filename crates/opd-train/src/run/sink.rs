use std::time::SystemTime;

use crate::run::{Error, Metrics, Result, StepMetrics, TensorBoard};

/// Takes the metrics of a run, step by step; a run may have any number of them.
///
/// [`Metrics`] (JSONL), [`TensorBoard`] and [`Wandb`](crate::run::Wandb) are sinks;
/// [`Job::with_sink`](crate::Job::with_sink) adds one of your own:
///
/// ```
/// use opd_train::run::{MetricSink, Result, StepMetrics};
///
/// /// Keeps the reverse KL of every step, in nats.
/// #[derive(Default)]
/// struct Kept(Vec<(u64, f64)>);
///
/// impl MetricSink for Kept {
///     fn start(&mut self, last: Option<u64>) -> Result<()> {
///         self.0.retain(|(step, _)| last.is_some_and(|last| *step <= last));
///         Ok(())
///     }
///
///     fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
///         self.0.extend(metrics.get("reverse_kl").map(|kl| (metrics.step, kl)));
///         Ok(())
///     }
/// }
///
/// let mut kept = Kept::default();
/// kept.start(None)?;
/// for step in 1..=3 {
///     kept.write(&StepMetrics::new(step).with("reverse_kl", 1.0 / step as f64))?;
/// }
/// // Killed, and resumed from the checkpoint of step 2: step 3 is made anew.
/// kept.start(Some(2))?;
/// kept.write(&StepMetrics::new(3).with("reverse_kl", 1.0 / 3.0))?;
/// assert_eq!(kept.0, [(1, 1.0), (2, 0.5), (3, 1.0 / 3.0)]);
/// # Ok::<(), opd_train::run::Error>(())
/// ```
pub trait MetricSink: Send {
    /// Called once, before the first line: the run goes on after step `last`, and steps behind it
    /// come again. `None`: nothing that was written before counts.
    ///
    /// # Errors
    ///
    /// Ends the run; see [`Error::sink`].
    fn start(&mut self, last: Option<u64>) -> Result<()> {
        let _ = last;
        Ok(())
    }

    /// Takes what is known of one step; steps increase.
    ///
    /// # Errors
    ///
    /// Ends the run; see [`Error::sink`].
    fn write(&mut self, metrics: &StepMetrics) -> Result<()>;

    /// Makes what was written survive a loss of power. A checkpoint must not outlive the lines
    /// of its steps: called before one is saved.
    ///
    /// # Errors
    ///
    /// Ends the run; see [`Error::sink`].
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once, when all steps are made.
    ///
    /// # Errors
    ///
    /// Ends the run; see [`Error::sink`].
    fn finish(&mut self) -> Result<()> {
        self.sync()
    }
}

impl MetricSink for Metrics {
    fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
        Self::write(self, metrics)
    }

    fn sync(&mut self) -> Result<()> {
        Self::sync(self)
    }
}

impl MetricSink for TensorBoard {
    fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
        Self::write(self, metrics, SystemTime::now())
    }
}

/// All sinks of a run, in order.
#[derive(Default)]
pub(crate) struct Sinks(Vec<Box<dyn MetricSink>>);

impl Sinks {
    pub(crate) fn push(&mut self, sink: Box<dyn MetricSink>) {
        self.0.push(sink);
    }

    /// Puts built-in sinks before those of the user.
    pub(crate) fn prepend(&mut self, sinks: Vec<Box<dyn MetricSink>>) {
        self.0.splice(0..0, sinks);
    }

    pub(crate) fn start(&mut self, last: Option<u64>) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.start(last))
    }

    pub(crate) fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.write(metrics))
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.sync())
    }

    pub(crate) fn finish(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.finish())
    }
}

impl Error {
    /// The failure of a sink of one's own.
    pub fn sink(
        name: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Sink { name: name.into(), source: source.into() }
    }
}
