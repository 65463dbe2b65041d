//! Steps of the bundled student, past the linter: what becomes of its weights.

use std::sync::Arc;

use candle_core::{DType, Device};
use opd_advantage::ZeroAdvantage;
use opd_data::Fields;
use opd_loss::CrossEntropy;
use opd_models::{CausalLm, Tokenizer};
use opd_pocket::{DataSizes, Layout, materialize_with};
use opd_teacher::InProcessTeacher;
use opd_train::{
    Job, Outcome, Parts, TokenizedPrompts, Trainer,
    config::{DistillationConfig, TrainConfig},
    run::{Existing, RunDir},
};

const STEPS: u64 = 3;

fn inputs(work: &tempfile::TempDir) -> Layout {
    let sizes = DataSizes { train: 32, validation: 1, test: 1 };
    materialize_with(&work.path().join("inputs"), sizes).unwrap()
}

fn small(set: impl Fn(&mut TrainConfig)) -> TrainConfig {
    let mut config = TrainConfig { steps: STEPS, ..TrainConfig::default() };
    (config.rollout.prompts, config.rollout.samples_per_prompt) = (4, 2);
    config.rollout.max_response_tokens = 10;
    config.optimizer.lr = 1e-3;
    set(&mut config);
    config
}

/// The student's weights after three steps of cross-entropy on the responses that these settings
/// collect; the teacher writes what is the teacher's.
pub(crate) fn supervised(set: impl Fn(&mut TrainConfig)) -> Vec<Vec<f64>> {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(&work);
    let student = CausalLm::load(&inputs.student, DType::F32, &Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&inputs.student).unwrap();
    let fields = Fields::default();
    let prompts =
        TokenizedPrompts::load(&inputs.train, &fields, &tokenizer, student.config(), 10).unwrap();
    let teacher = InProcessTeacher::load(&inputs.teacher, DType::F32, &Device::Cpu).unwrap();
    let parts = Parts::new(ZeroAdvantage, CrossEntropy);
    let parts = Parts { writer: Some(Arc::new(teacher)), ..parts };
    let mut trainer = Trainer::new(student, tokenizer, prompts, parts, small(set)).unwrap();
    for step in 0..STEPS {
        trainer.step(step).unwrap();
    }
    trainer.student.parameters().iter().map(|p| opd_testkit::host(&p.tensor())).collect()
}

/// The bytes of the student's weights after a run of three steps with a teacher that is told the
/// label.
pub(crate) fn distilled(set: impl Fn(&mut DistillationConfig)) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let inputs = inputs(&work);
    let mut config = small(|_| {});
    config.student.path = inputs.student.clone();
    config.data.train = inputs.train.clone().into();
    let mut distillation = DistillationConfig {
        teacher: Some(inputs.teacher.clone()),
        prompt_template: Some("{label}{prompt}".into()),
        ..DistillationConfig::default()
    };
    set(&mut distillation);
    config.distillation = Some(distillation);
    let path = work.path().join("run");
    let dir = RunDir::create(&path, Existing::Refuse).unwrap();
    let outcome = Job::create(config, dir, &Device::Cpu).unwrap().run(&mut ()).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    std::fs::read(path.join("model/model.safetensors")).unwrap()
}
