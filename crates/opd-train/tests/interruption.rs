//! A run that is left while held-out prompts are answered goes on as if it had not been, also for
//! a metric sink of one's own.
#![allow(clippy::unwrap_used, missing_docs)]

mod wandb_log;
mod wire;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device};
use opd_models::CausalLm;
use opd_pocket::{DataSizes, Layout, materialize_with};
use opd_train::{
    DumpedRollout, Event, Job, Observer, Outcome,
    config::{DistillationConfig, TrainConfig, WandbConfig},
    run::{Error, Existing, MetricSink, Metrics, Result, RunDir, StepMetrics},
};

/// Four steps; the table, the teacher's row, and validations at steps 0, 2 and 4.
fn config(inputs: &Layout) -> TrainConfig {
    let mut config = TrainConfig { name: "left".into(), steps: 4, ..TrainConfig::default() };
    config.student.path = inputs.student.clone();
    config.data.train = inputs.train.clone().into();
    config.data.test = Some(inputs.test.clone());
    config.data.validation = Some(inputs.validation.clone());
    let teacher = Some(inputs.teacher.clone());
    config.distillation = Some(DistillationConfig { teacher, ..DistillationConfig::default() });
    (config.rollout.prompts, config.rollout.samples_per_prompt) = (2, 2);
    (config.rollout.max_response_tokens, config.rollout.max_sequences) = (3, 4);
    config.optimizer.lr = 1e-3;
    config.evaluation.interval = 2;
    config.evaluation.report_samples = 2;
    config.checkpoints.interval = 3;
    config.rollout.dump_interval = 2;
    config.wandb = Some(WandbConfig::default());
    config
}

/// Asks to leave in the middle of the evaluation of this number, from 1.
struct Leaver {
    evaluation: usize,
    seen: usize,
}

impl Observer for Leaver {
    fn event(&mut self, event: Event<'_>) {
        if let Event::EvaluationProgress { done, of } = event
            && done < of
        {
            assert!(self.seen < self.evaluation, "more is asked after the wish to leave");
            self.seen += 1;
        }
    }

    fn interrupted(&self) -> bool {
        self.seen >= self.evaluation
    }
}

/// All that a run comes to and that does not depend on the clock.
#[derive(Debug, PartialEq)]
struct Came {
    metrics: Vec<StepMetrics>,
    wandb: Vec<StepMetrics>,
    rollouts: Vec<(String, Vec<u8>)>,
    weights: Vec<u8>,
}

fn result(run: &Path) -> Came {
    let timeless = |metrics: Vec<StepMetrics>| {
        metrics.into_iter().map(StepMetrics::without_seconds).collect::<Vec<_>>()
    };
    let files = |dir: &str| {
        let entries = fs::read_dir(run.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.collect();
        files.sort();
        files
    };
    let [offline] = files("wandb").try_into().unwrap();
    let id = offline.to_str().unwrap().rsplit_once('-').unwrap().1.to_owned();
    let log = wandb_log::read(&fs::read(offline.join(format!("run-{id}.wandb"))).unwrap());
    assert_eq!(log.exits, 1);
    let wandb = log.history.into_iter().map(|(step, mut values)| {
        assert_eq!(values.remove("_step"), Some(step as f64));
        StepMetrics { step, values }
    });
    let rollouts = files("rollouts").into_iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    Came {
        metrics: timeless(Metrics::read(&run.join("metrics.jsonl")).unwrap()),
        wandb: timeless(wandb.collect()),
        rollouts: rollouts.collect(),
        weights: fs::read(run.join("model/model.safetensors")).unwrap(),
    }
}

/// Each rollout of a step agrees with itself and with the step's metrics.
fn check_rollouts(came: &Came) {
    let names: Vec<&str> = came.rollouts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["step-2.jsonl", "step-4.jsonl"]);
    for ((_, text), step) in came.rollouts.iter().zip([2, 4]) {
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let rollouts: Vec<DumpedRollout> =
            lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(rollouts.iter().map(|r| r.row).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(rollouts.iter().map(|r| r.group).collect::<Vec<_>>(), [0, 0, 1, 1]);
        let (mut sum, mut n) = (0.0, 0);
        for rollout in &rollouts {
            assert_eq!(rollout.step, step);
            let teacher = rollout.teacher_logprobs.as_ref().unwrap();
            let signal = rollout.signal.as_ref().unwrap();
            assert_eq!(rollout.response_ids.len(), rollout.advantages.len());
            for (i, advantage) in rollout.advantages.iter().enumerate() {
                let expected = teacher[i].unwrap() - rollout.student_logprobs[i];
                assert_eq!(signal[i], Some(expected));
                // Pure distillation with coefficient 1.
                assert!((advantage - expected).abs() < 1e-6);
                assert!((rollout.sampler_logprobs[i] - rollout.student_logprobs[i]).abs() < 1e-4);
                (sum, n) = (sum - f64::from(expected), n + 1);
            }
        }
        let metrics = came.metrics.iter().find(|metrics| metrics.step == step).unwrap();
        assert!((metrics.get("reverse_kl").unwrap() - sum / f64::from(n)).abs() < 1e-5);
    }
}

fn inputs(work: &Path) -> Layout {
    let sizes = DataSizes { train: 12, validation: 6, test: 8 };
    let inputs = materialize_with(&work.join("inputs"), sizes).unwrap();
    for (dir, seed) in [(&inputs.student, 1), (&inputs.teacher, 2)] {
        let model = CausalLm::random(dir, seed, DType::F32, &Device::Cpu).unwrap();
        model.save(dir).unwrap();
    }
    inputs
}

#[test]
fn left_in_the_middle_of_any_evaluation() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    let start = |name: &str, observer: &mut dyn Observer| {
        let dir = RunDir::create(work.path().join(name), Existing::Refuse).unwrap();
        Job::create(config(&inputs), dir, &Device::Cpu).unwrap().run(observer).unwrap()
    };
    let Outcome::Finished(whole) = start("whole", &mut ()) else { panic!("nobody left") };
    let came = result(&work.path().join("whole"));
    assert_eq!(came.wandb, came.metrics);
    check_rollouts(&came);

    // Before, teacher, validation at 0, 2 and 4, after.
    for (i, steps) in [0, 0, 0, 2, 4, 4].into_iter().enumerate() {
        let name = format!("left-{i}");
        let outcome = start(&name, &mut Leaver { evaluation: i + 1, seen: 0 });
        assert_eq!(outcome, Outcome::Interrupted { step: steps });
        let dir = RunDir::resume(work.path().join(&name)).unwrap();
        let resumed = Job::resume(dir, &Device::Cpu).unwrap().run(&mut ()).unwrap();
        let Outcome::Finished(mut summary) = resumed else { panic!("nobody left") };
        assert_eq!(result(&work.path().join(&name)), came);
        summary.seconds = whole.seconds;
        assert_eq!(summary, whole);
    }
    let dir = RunDir::create(work.path().join("last"), Existing::Refuse).unwrap();
    let job = Job::create(config(&inputs), dir, &Device::Cpu).unwrap();
    let outcome = job.run(&mut Leaver { evaluation: 7, seen: 0 }).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)), "there is no seventh evaluation");
}

/// What a sink of one's own was told.
#[derive(Default)]
struct Heard {
    starts: Vec<Option<u64>>,
    lines: Vec<StepMetrics>,
    finished: usize,
}

struct Own {
    heard: Arc<Mutex<Heard>>,
    fails_at: Option<u64>,
}

impl MetricSink for Own {
    fn start(&mut self, last: Option<u64>) -> Result<()> {
        self.heard.lock().unwrap().starts.push(last);
        Ok(())
    }

    fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
        if self.fails_at == Some(metrics.step) {
            return Err(Error::sink("my own", "no room left"));
        }
        self.heard.lock().unwrap().lines.push(metrics.clone());
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.heard.lock().unwrap().finished += 1;
        Ok(())
    }
}

#[test]
fn a_sink_of_ones_own_is_told_of_every_step_once() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    let heard = Arc::new(Mutex::new(Heard::default()));
    let own = |fails_at| Own { heard: heard.clone(), fails_at };
    let path = work.path().join("run");
    let dir = RunDir::create(&path, Existing::Refuse).unwrap();
    let job = Job::create(config(&inputs), dir, &Device::Cpu).unwrap().with_sink(own(None));
    // In the validation of step 2, whose line is then still unwritten.
    let outcome = job.run(&mut Leaver { evaluation: 4, seen: 0 }).unwrap();
    assert_eq!(outcome, Outcome::Interrupted { step: 2 });
    assert_eq!(heard.lock().unwrap().finished, 0);
    let job = Job::resume(RunDir::resume(&path).unwrap(), &Device::Cpu).unwrap();
    let outcome = job.with_sink(own(None)).run(&mut ()).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    let told = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!((told.starts, told.finished), (vec![None, Some(1)], 1));
    assert_eq!(told.lines.iter().map(|line| line.step).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(told.lines, Metrics::read(&path.join("metrics.jsonl")).unwrap());

    let dir = RunDir::create(work.path().join("full"), Existing::Refuse).unwrap();
    let job = Job::create(config(&inputs), dir, &Device::Cpu).unwrap().with_sink(own(Some(2)));
    let error = job.run(&mut ()).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let said = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(said.ends_with("the metric sink `my own` failed: no room left"), "{said}");
}
