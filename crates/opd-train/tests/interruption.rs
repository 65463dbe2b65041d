//! A run that is left while held-out prompts are answered goes on as if it had not been.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

use candle_core::{DType, Device};
use opd_models::CausalLm;
use opd_pocket::{DataSizes, Layout, materialize_with};
use opd_train::{
    Event, Job, Observer, Outcome,
    config::{DistillationConfig, TrainConfig},
    run::{Existing, Metrics, RunDir, StepMetrics},
};

/// Four steps; the table, the teacher's row, and validations at steps 0, 2 and 4.
fn config(inputs: &Layout) -> TrainConfig {
    let mut config = TrainConfig { name: "left".into(), steps: 4, ..TrainConfig::default() };
    config.student.path = inputs.student.clone();
    config.data.train = inputs.train.clone();
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

/// Metrics without times, and the final weights.
fn result(run: &Path) -> (Vec<StepMetrics>, Vec<u8>) {
    let metrics = Metrics::read(&run.join("metrics.jsonl")).unwrap();
    let weights = fs::read(run.join("model/model.safetensors")).unwrap();
    (metrics.into_iter().map(StepMetrics::without_seconds).collect(), weights)
}

#[test]
fn left_in_the_middle_of_any_evaluation() {
    let work = tempfile::tempdir().unwrap();
    let sizes = DataSizes { train: 12, validation: 6, test: 8 };
    let inputs = materialize_with(&work.path().join("inputs"), sizes).unwrap();
    for (dir, seed) in [(&inputs.student, 1), (&inputs.teacher, 2)] {
        let model = CausalLm::random(dir, seed, DType::F32, &Device::Cpu).unwrap();
        model.save(dir).unwrap();
    }
    let start = |name: &str, observer: &mut dyn Observer| {
        let dir = RunDir::create(work.path().join(name), Existing::Refuse).unwrap();
        Job::create(config(&inputs), dir, &Device::Cpu).unwrap().run(observer).unwrap()
    };
    let Outcome::Finished(whole) = start("whole", &mut ()) else { panic!("nobody left") };

    // Before, teacher, validation at 0, 2 and 4, after.
    for (i, steps) in [0, 0, 0, 2, 4, 4].into_iter().enumerate() {
        let name = format!("left-{i}");
        let outcome = start(&name, &mut Leaver { evaluation: i + 1, seen: 0 });
        assert_eq!(outcome, Outcome::Interrupted { step: steps });
        let dir = RunDir::resume(work.path().join(&name)).unwrap();
        let resumed = Job::resume(dir, &Device::Cpu).unwrap().run(&mut ()).unwrap();
        let Outcome::Finished(mut summary) = resumed else { panic!("nobody left") };
        assert_eq!(result(&work.path().join(&name)), result(&work.path().join("whole")));
        summary.seconds = whole.seconds;
        assert_eq!(summary, whole);
    }
    let dir = RunDir::create(work.path().join("last"), Existing::Refuse).unwrap();
    let job = Job::create(config(&inputs), dir, &Device::Cpu).unwrap();
    let outcome = job.run(&mut Leaver { evaluation: 7, seen: 0 }).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)), "there is no seventh evaluation");
}
