//! A top-k loss from scores that a teacher was asked for, as a server gives them, trains as the
//! one from the teacher's hidden states.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use candle_core::{DType, Device};
use opd_advantage::ZeroAdvantage;
use opd_data::Fields;
use opd_loss::{Direction, Support, Tail, TopKObjective};
use opd_models::{CausalLm, Tokenizer};
use opd_pocket::{DataSizes, materialize_with};
use opd_teacher::InProcessTeacher;
use opd_train::{
    Parts, TokenizedPrompts, Trainer,
    config::{DistillationConfig, LossKind, SupportKind, TeacherKind, TrainConfig},
};

/// Loss, gradient norm and sampled KL of a step, from scores or from hidden states.
fn step(scored: bool) -> [f64; 3] {
    let work = tempfile::tempdir().unwrap();
    let sizes = DataSizes { train: 4, validation: 1, test: 1 };
    let inputs = materialize_with(work.path(), sizes).unwrap();
    let student = CausalLm::load(&inputs.student, DType::F32, &Device::Cpu).unwrap();
    let teacher = InProcessTeacher::load(&inputs.teacher, DType::F32, &Device::Cpu).unwrap();
    let teacher = Arc::new(teacher);
    let tokenizer = Tokenizer::load(&inputs.student).unwrap();
    let fields = Fields::default();
    let prompts =
        TokenizedPrompts::load(&inputs.train, &fields, &tokenizer, student.config(), 8).unwrap();
    let objective = TopKObjective::new(3, Support::Teacher, Tail::Bucket, Direction::Forward);
    let parts = Parts {
        teacher: scored.then(|| teacher.clone() as _),
        distribution: (!scored).then_some(teacher as _),
        ..Parts::new(ZeroAdvantage, objective.unwrap())
    };
    let mut config = TrainConfig { steps: 1, ..TrainConfig::default() };
    (config.rollout.prompts, config.rollout.samples_per_prompt) = (4, 2);
    config.rollout.max_response_tokens = 12;
    config.rollout.temperature = 0.9;
    config.optimizer.token_budget = 40;
    let mut trainer = Trainer::new(student, tokenizer, prompts, parts, config).unwrap();
    let metrics = trainer.step(0).unwrap();
    ["loss", "grad_norm", "reverse_kl"].map(|name| metrics.get(name).unwrap())
}

#[test]
fn scores_stand_for_hidden_states() {
    let (scored, states) = (step(true), step(false));
    assert!(states[0] > 1e-3 && states[1] > 1e-3, "{states:?} shows nothing");
    for (scored, states) in scored.into_iter().zip(states) {
        assert!((scored / states - 1.0).abs() < 1e-3, "{scored}, not {states}");
    }
}

#[test]
fn a_server_is_enough_on_its_own_support_alone() {
    let mut config = TrainConfig { steps: 1, ..TrainConfig::default() };
    config.student.path = "student".into();
    config.data.train = "train.jsonl".into();
    config.distillation = Some(DistillationConfig {
        kind: TeacherKind::Sglang,
        urls: vec!["http://127.0.0.1:1".into()],
        ..DistillationConfig::default()
    });
    config.objective.loss = LossKind::TopKReverseKl;
    config.validate().unwrap();
    config.objective.top_k_support = SupportKind::Student;
    let message = config.validate().unwrap_err().to_string();
    assert!(message.contains("one teacher in this process alone"), "{message}");
}
