use std::path::Path;

use opd_models::{Footprint, ModelConfig, encoded_bytes};

use super::Part;
use crate::{
    Result,
    config::{CriticKind, EstimatorKind, FrozenWeights, TeacherKind, TrainConfig},
    run::RunDir,
};

/// What the program itself takes: code, tokenizer, prompts, buffers of matrix products, and what
/// the allocator keeps between phases.
const PROGRAM: u64 = 88 << 20;

/// The models of a run and what is held of them.
pub(super) struct Models {
    pub(super) student: Footprint,
    /// Whether the embedding and the head are trained.
    pub(super) tables_are_trained: bool,
    /// What is trained: the student's weights or its adapters.
    pub(super) trained: u64,
    /// The largest model that scores beside the student.
    pub(super) scorer: Option<Footprint>,
    /// The critic's model, if it has one of its own.
    pub(super) critic: Option<Footprint>,
    pub(super) held: Vec<Part>,
}

impl Models {
    pub(super) fn read(config: &TrainConfig) -> Result<Self> {
        let products = config.precision.products();
        let of = |dir: &Path| -> Result<Footprint> {
            Ok(Footprint::of(&ModelConfig::load(dir)?, products))
        };
        // Of a model that is frozen, as it is held.
        let frozen = |dir: &Path, footprint: &Footprint| -> Result<u64> {
            let stored = match config.frozen_weights {
                FrozenWeights::F32 => None,
                FrozenWeights::Auto | FrozenWeights::Stored => encoded_bytes(dir)?,
            };
            Ok(stored.unwrap_or(u64::MAX).min(footprint.frozen()))
        };
        let student = of(&config.student.path)?;
        let lora = &config.student.lora;
        let own = match (lora, config.frozen_weights) {
            (Some(_), FrozenWeights::Stored) => frozen(&config.student.path, &student)?,
            _ => student.weights(),
        };
        let adapters = match lora {
            None => None,
            Some(lora) => {
                let settings = match &lora.adapter {
                    Some(dir) => opd_models::LoraConfig::load(dir)?,
                    None => lora.settings()?,
                };
                Some(student.adapters(&settings))
            }
        };
        let trained = adapters.unwrap_or(student.weights());
        // A copy of the student as it starts: shared below adapters.
        let copy = match lora {
            None => frozen(&config.student.path, &student)?,
            Some(lora) if lora.adapter.is_some() => trained,
            Some(_) => 0,
        };
        let mut scorers = Vec::new();
        let mut teacher = 0;
        for one in config.all_teachers() {
            match (one.kind, one.path) {
                (TeacherKind::Start, _) => {
                    teacher += copy;
                    scorers.push(student.clone());
                }
                (TeacherKind::Ema, _) => {
                    teacher += trained;
                    scorers.push(student.clone());
                }
                (TeacherKind::InProcess, Some(dir)) => {
                    let dir = match one.step {
                        Some(step) => RunDir::checkpoint_of(&dir, step),
                        None => dir,
                    };
                    let footprint = of(&dir)?;
                    teacher += frozen(&dir, &footprint)?;
                    scorers.push(footprint);
                }
                _ => {}
            }
        }
        let mut reference = 0;
        if config.needs_reference() {
            let footprint = match &config.student.reference {
                Some(dir) => of(dir)?,
                None => student.clone(),
            };
            reference = match &config.student.reference {
                Some(dir) => frozen(dir, &footprint)?,
                None => copy,
            };
            scorers.push(footprint);
        }
        let has_critic = config.objective.estimator == EstimatorKind::Ppo
            && config.objective.critic.kind == CriticKind::Model;
        let critic = match (has_critic, &config.objective.critic.path) {
            (false, _) => None,
            (true, Some(dir)) => Some(of(dir)?),
            (true, None) => Some(student.clone()),
        };
        let scorer = scorers.into_iter().max_by_key(Footprint::forward_per_token);
        let part = |name, bytes| Part { name, bytes };
        let mut held = vec![
            part("program", PROGRAM),
            part("student's weights", own),
            part("adapters", adapters.unwrap_or(0)),
            part("optimizer", 2 * trained),
            part("teacher's weights", teacher),
            part("start policy's weights", reference),
            part("critic and its optimizer", critic.as_ref().map_or(0, |c| 3 * c.weights())),
        ];
        held.retain(|part| part.bytes > 0);
        let tables_are_trained = lora.is_none();
        Ok(Self { student, tables_are_trained, trained, scorer, critic, held })
    }
}
