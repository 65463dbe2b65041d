//! Where the metrics of a run go.

use std::time::SystemTime;

use crate::{
    Error, Job, Result,
    run::{MetricSink, Metrics, StepMetrics, TensorBoard, Wandb, WandbRun},
};

impl Job {
    /// The last step whose line counts; none if nothing of an attempt that never reached a
    /// checkpoint does.
    pub(crate) fn last_line(&self) -> Option<u64> {
        // The line of a step that is yet to be evaluated is yet to be written.
        let unwritten = u64::from(self.state.unevaluated.is_some());
        (self.state.step > 0).then(|| self.state.step - unwritten)
    }

    /// Opens what metrics are written to, and returns those that count.
    pub(crate) fn open_sinks(&mut self, last: Option<u64>) -> Result<Vec<StepMetrics>> {
        let (dir, now) = (&self.dir, SystemTime::now());
        let metrics = match last {
            None => Metrics::create(dir.metrics())?,
            Some(step) => Metrics::resume(dir.metrics(), step)?,
        };
        let history = Metrics::read(&dir.metrics())?;
        let board = match last {
            None if !self.resumes => TensorBoard::create(&dir.tensorboard(), now)?,
            _ => TensorBoard::resume(&dir.tensorboard(), last.unwrap_or(0), now)?,
        };
        let mut sinks: Vec<Box<dyn MetricSink>> = vec![Box::new(metrics), Box::new(board)];
        if let Some(run) = self.wandb_run()? {
            sinks.push(Box::new(Wandb::open(&dir.wandb(), run, now)?));
        }
        self.sinks.prepend(sinks);
        self.sinks.start(last)?;
        Ok(history)
    }

    /// What Weights & Biases is told of this run, if it is to be told.
    fn wandb_run(&self) -> Result<Option<WandbRun>> {
        let config = &self.trainer.config;
        let Some(wandb) = &config.wandb else { return Ok(None) };
        let bad = |error: serde_json::Error| Error::State {
            path: self.dir.wandb(),
            what: format!("the configuration is no JSON: {error}"),
        };
        let settings = serde_json::to_value(config).map_err(bad)?;
        let settings = settings.as_object().into_iter().flatten();
        let name = self.dir.path().file_name();
        Ok(Some(WandbRun {
            name: name.map_or(config.name.clone(), |name| name.to_string_lossy().into_owned()),
            project: wandb.project.clone(),
            group: wandb.group.clone(),
            entity: wandb.team.clone(),
            config: settings.map(|(key, value)| (key.clone(), value.to_string())).collect(),
        }))
    }
}
