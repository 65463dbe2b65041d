//! The critic of `ppo`: what it learns, what it moves, and that nothing but the run decides it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use opd_models::{CausalLm, ValueHead};
use opd_pocket::{DataSizes, Layout, materialize_with};
use opd_testkit::same_on_any_number_of_threads;
use opd_train::{
    Event, Job, Observer, Outcome,
    config::{CriticKind, DistillationConfig, EstimatorKind, Schedule, TrainConfig},
    run::{Existing, Metrics, RunDir, StepMetrics},
};

fn inputs(work: &Path) -> Layout {
    materialize_with(&work.join("inputs"), DataSizes { train: 256, validation: 6, test: 4 })
        .unwrap()
}

/// Four steps of the bundled student on its task, with its teacher, in two updates each.
fn config(inputs: &Layout, kind: CriticKind) -> TrainConfig {
    let mut config = TrainConfig { name: "ppo".into(), steps: 4, ..TrainConfig::default() };
    config.student.path = inputs.student.clone();
    config.data.train = inputs.train.clone().into();
    let teacher = Some(inputs.teacher.clone());
    config.distillation = Some(DistillationConfig { teacher, ..DistillationConfig::default() });
    (config.rollout.prompts, config.rollout.samples_per_prompt) = (4, 3);
    config.rollout.max_response_tokens = 10;
    config.objective.estimator = EstimatorKind::Ppo;
    config.objective.lambda = 0.95;
    config.objective.kl_coef = 0.05;
    config.objective.whiten = true;
    config.objective.critic.kind = kind;
    config.objective.critic.lr = Some(3e-3);
    config.optimizer.lr = 1e-4;
    config.optimizer.updates_per_batch = 2;
    config.checkpoints.interval = 1;
    config
}

fn run(dir: PathBuf, config: TrainConfig) -> PathBuf {
    let run = RunDir::create(&dir, Existing::Refuse).unwrap();
    let outcome = Job::create(config, run, &Device::Cpu).unwrap().run(&mut ()).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    dir
}

/// Metrics without times, and the bytes of all that is trained.
fn result(run: &Path, kind: CriticKind) -> (Vec<StepMetrics>, Vec<Vec<u8>>) {
    let metrics = Metrics::read(&run.join("metrics.jsonl")).unwrap();
    let model = ["critic/model.safetensors"].into_iter().filter(|_| kind == CriticKind::Model);
    let files = ["model/model.safetensors", "critic/value_head.safetensors"].into_iter();
    let files = files.chain(model).map(|file| fs::read(run.join(file)).unwrap());
    (metrics.into_iter().map(StepMetrics::without_seconds).collect(), files.collect())
}

fn column(run: &Path, key: &str) -> Vec<f64> {
    let metrics = Metrics::read(&run.join("metrics.jsonl")).unwrap();
    metrics.iter().map(|line| line.get(key).unwrap()).collect()
}

/// Leaves after so many steps.
struct Leaver(u64);

impl Observer for Leaver {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step { .. } = event {
            self.0 -= 1;
        }
    }

    fn interrupted(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_run_that_is_left_goes_on_with_the_same_bits() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    for kind in [CriticKind::Head, CriticKind::Model] {
        let mut config = config(&inputs, kind);
        config.objective.critic.student_coef = if kind == CriticKind::Head { 0.5 } else { 0.0 };
        let whole = run(work.path().join(format!("whole-{kind:?}")), config.clone());
        let left = work.path().join(format!("left-{kind:?}"));
        let dir = RunDir::create(&left, Existing::Refuse).unwrap();
        let job = Job::create(config, dir, &Device::Cpu).unwrap();
        assert_eq!(job.run(&mut Leaver(2)).unwrap(), Outcome::Interrupted { step: 2 });
        let checkpoint = left.join("checkpoints/step-2");
        assert!(checkpoint.join("critic/optimizer.safetensors").exists());
        let job = Job::resume(RunDir::resume(&left).unwrap(), &Device::Cpu).unwrap();
        assert!(matches!(job.run(&mut ()).unwrap(), Outcome::Finished(_)));
        assert!(result(&left, kind) == result(&whole, kind), "{kind:?}");
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    for kind in [CriticKind::Head, CriticKind::Model] {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let work = tempfile::tempdir().unwrap();
        let inputs = inputs(work.path());
        same_on_any_number_of_threads(|| {
            let mut config = config(&inputs, kind);
            config.steps = 2;
            config.optimizer.token_budget = 60;
            config.optimizer.micro_batches_at_once = 3;
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let run = run(work.path().join(n.to_string()), config);
            let (metrics, files) = result(&run, kind);
            let values = metrics.iter().flat_map(|line| line.values.values().copied());
            let bytes = files.iter().map(|file| file.iter().map(|&b| f64::from(b)).collect());
            bytes.chain([values.collect()]).collect()
        });
    }
}

#[test]
fn micro_batches_change_nothing_but_rounding() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    for kind in [CriticKind::Head, CriticKind::Model] {
        let step = |budget: usize, at_once: usize| {
            let mut config = config(&inputs, kind);
            config.steps = 1;
            config.objective.whiten = false;
            config.objective.critic.student_coef = f64::from(u8::from(kind == CriticKind::Head));
            config.optimizer.token_budget = budget;
            config.optimizer.micro_batches_at_once = at_once;
            let run = run(work.path().join(format!("{kind:?}-{budget}-{at_once}")), config);
            let keys =
                ["loss", "grad_norm", "value_loss", "value_grad_norm", "value_explained_variance"];
            keys.map(|key| column(&run, key)[0])
        };
        let whole = step(8192, 1);
        assert!(whole[..4].iter().all(|value| value.abs() > 1e-4), "{whole:?} shows nothing");
        for (budget, at_once) in [(1, 1), (1, 4), (45, 1)] {
            let cut = step(budget, at_once);
            for (cut, whole) in cut.iter().zip(&whole) {
                let off = (cut - whole).abs();
                assert!(
                    off < 2e-5 * whole.abs().max(0.1),
                    "{kind:?}, {budget}: {cut}, not {whole}"
                );
            }
        }
    }
}

/// Weights by name of a directory's model and head.
fn weights(dir: &Path, width: usize) -> Vec<(String, Vec<f64>)> {
    let mut all = Vec::new();
    let mut take = |parameters: &opd_models::Parameters| {
        for parameter in parameters.iter() {
            all.push((parameter.name(), opd_testkit::host(&parameter.tensor())));
        }
    };
    if dir.join("config.json").exists() {
        take(CausalLm::load(dir, DType::F32, &Device::Cpu).unwrap().parameters());
    }
    if dir.join(ValueHead::FILE).exists() {
        take(ValueHead::load(dir, width, DType::F32, &Device::Cpu).unwrap().parameters());
    }
    all
}

#[test]
fn every_parameter_of_a_critic_of_its_own_is_trained_and_is_saved_for_another_run() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    let mut config = config(&inputs, CriticKind::Model);
    config.steps = 1;
    let first = run(work.path().join("first"), config.clone());
    let width = CausalLm::load(&inputs.student, DType::F32, &Device::Cpu).unwrap();
    let width = width.config().hidden_size;
    let start = weights(&inputs.student, width);
    let trained = weights(&first.join("critic"), width);
    assert_eq!(trained.len(), start.len() + 2);
    for ((name, before), (_, after)) in start.iter().zip(&trained) {
        assert_ne!(before, after, "{name} of the critic was not trained");
    }
    let head = ValueHead::random(width, config.seed, DType::F32, &Device::Cpu).unwrap();
    for (parameter, (name, after)) in head.parameters().iter().zip(&trained[start.len()..]) {
        assert_ne!(opd_testkit::host(&parameter.tensor()), *after, "{name}");
    }

    let files = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(first.join(dir)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert!(files("critic").contains(&"value_head.safetensors".to_owned()));
    let safetensors = files("model").into_iter().filter(|name| name.ends_with(".safetensors"));
    assert_eq!(safetensors.collect::<Vec<_>>(), ["model.safetensors"]);

    // Another run's first values are those of the critic that it starts from.
    config.objective.critic.path = Some(first.join("critic"));
    config.objective.critic.lr = Some(1e-12);
    let second = run(work.path().join("second"), config.clone());
    let moved = weights(&second.join("critic"), width);
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(moved.iter().zip(&trained).all(|((_, a), (_, b))| near(a, b)));
    config.objective.critic.kind = CriticKind::Head;
    let third = run(work.path().join("third"), config);
    let held = weights(&third.join("critic"), width);
    assert!(held.iter().zip(&trained[start.len()..]).all(|((_, a), (_, b))| near(a, b)));
}

#[test]
fn the_value_loss_moves_the_student_as_much_as_it_is_told_to() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    let student = |name: &str, change: fn(&mut TrainConfig)| {
        let mut config = config(&inputs, CriticKind::Head);
        (config.steps, config.optimizer.updates_per_batch) = (1, 1);
        change(&mut config);
        let run = run(work.path().join(name), config);
        (fs::read(run.join("model/model.safetensors")).unwrap(), column(&run, "grad_norm")[0])
    };
    let (detached, norm) = student("detached", |_| {});
    let (other_rate, _) = student("rate", |config| config.objective.critic.lr = Some(1e-1));
    assert!(detached == other_rate, "the critic's learning rate reaches the student");
    let (moved, more) = student("moved", |config| config.objective.critic.student_coef = 1.0);
    assert!(moved != detached && more > norm, "{more} is not above {norm}");
    let (_, most) = student("most", |config| config.objective.critic.student_coef = 100.0);
    assert!(most > 20.0 * more, "{most} is not far above {more}");
}

/// With a discount, most of what a return is can be told from how far the response has come.
#[test]
fn the_values_are_learnt() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    for (kind, lr, bound) in [(CriticKind::Head, 5e-3, 0.3), (CriticKind::Model, 1e-3, 0.4)] {
        let mut config = config(&inputs, kind);
        config.steps = 30;
        (config.rollout.prompts, config.rollout.samples_per_prompt) = (16, 2);
        config.distillation = None;
        (config.objective.lambda, config.objective.gamma) = (1.0, 0.7);
        config.objective.kl_coef = 0.0;
        config.objective.critic.lr = Some(lr);
        config.optimizer.updates_per_batch = 1;
        config.optimizer.schedule = Schedule::Cosine;
        config.checkpoints.interval = 0;
        let run = run(work.path().join(format!("{kind:?}")), config);
        let explained = column(&run, "value_explained_variance");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (first, last) = (explained[0], mean(&explained[20..]));
        assert!(first < 0.1, "{kind:?}: {first} before anything was learnt");
        assert!(last > bound, "{kind:?}: {last} at the end");
        let losses = column(&run, "value_loss");
        assert!(mean(&losses[20..]) < 0.5 * losses[0], "{kind:?}: {losses:?}");
    }
}

#[test]
fn a_critic_that_is_damaged_stops_the_step_and_is_named() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    let student = CausalLm::load(&inputs.student, DType::F32, &Device::Cpu).unwrap();
    let width = student.config().hidden_size;
    let head = ValueHead::random(width, 0, DType::F32, &Device::Cpu).unwrap();
    let bias = head.parameters().iter().last().unwrap();
    bias.var().set(&opd_testkit::tensor(&[f64::NAN], 1, DType::F32)).unwrap();
    head.save(work.path()).unwrap();
    let mut config = config(&inputs, CriticKind::Head);
    config.objective.critic.path = Some(work.path().to_owned());
    let dir = RunDir::create(work.path().join("run"), Existing::Refuse).unwrap();
    let error = Job::create(config, dir, &Device::Cpu).unwrap().run(&mut ()).unwrap_err();
    let first: &dyn std::error::Error = &error;
    let chain: Vec<String> =
        std::iter::successors(Some(first), |error| error.source()).map(|e| e.to_string()).collect();
    assert_eq!(chain[0], "step 1, score: stopped before the weights were changed");
    assert!(chain[1].starts_with("the weights of `critic: value_head.bias` are not"), "{chain:?}");
    assert!(chain[2].contains("values"), "{chain:?}");
}

#[test]
fn what_is_wrong_with_a_critic_is_said_before_the_run() {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(work.path());
    let message = |change: &dyn Fn(&mut TrainConfig)| {
        let mut config = config(&inputs, CriticKind::Model);
        change(&mut config);
        let dir = RunDir::create(work.path().join("wrong"), Existing::Overwrite).unwrap();
        match Job::create(config, dir, &Device::Cpu) {
            Ok(_) => panic!("it was accepted"),
            Err(error) => error.to_string(),
        }
    };
    let negative = message(&|config| config.objective.critic.value_clip = -0.1);
    assert_eq!(negative, "objective.critic.value_clip must be finite and at least 0, got -0.1");
    let rate = message(&|config| config.objective.critic.lr = Some(0.0));
    assert_eq!(rate, "objective.critic.lr must be finite and above 0, got 0");
    let lambda = message(&|config| config.objective.lambda = 1.5);
    assert_eq!(lambda, "objective.lambda must be from 0 to 1, got 1.5");
    let head = message(&|config| {
        config.objective.critic.kind = CriticKind::Head;
        config.objective.critic.path = Some(config.student.path.clone());
    });
    assert!(head.contains("value_head.safetensors: cannot read"), "{head}");
}
