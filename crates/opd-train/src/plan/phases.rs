use opd_models::{Checkpointing, Footprint};
use opd_rollout::{LOGIT_ROWS, PROMPT_TOKENS, packed_tokens};

use super::{Assumed, Models, Part, Plan};
use crate::{checkpointing::decide, config::TrainConfig};

/// Tokens of one forward that only scores, in each thread.
const SCORED_AT_ONCE: usize = 1024;

/// The phases of a step.
pub(super) struct Phases<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) assumed: Assumed,
    pub(super) models: &'a Models,
}

fn part(name: &'static str, bytes: u64) -> Part {
    Part { name, bytes }
}

impl Phases<'_> {
    pub(super) fn plan(&self, budget: usize) -> Plan {
        let rollout = &self.config.rollout;
        let updates = self.config.optimizer.updates_per_batch.max(1);
        let (prompt, response) = (self.assumed.prompt_tokens, rollout.max_response_tokens);
        // The last token of a response is not fed in.
        let group = prompt + rollout.samples_per_prompt * (response - 1);
        let batch = (rollout.prompts * group).div_ceil(updates);
        let micro_batch = budget.min(batch).max(prompt + response - 1);
        let checkpointing = decide(&self.config.optimizer, &self.models.student, micro_batch);
        Plan {
            held: self.models.held.clone(),
            rollout: self.rollout(),
            score: self.score(batch * updates),
            update: self.update(micro_batch, batch, checkpointing),
            micro_batch,
            batch,
            checkpointing,
        }
    }

    fn rollout(&self) -> Vec<Part> {
        let (rollout, student) = (&self.config.rollout, &self.models.student);
        let sampled = rollout.prompts * rollout.samples_per_prompt;
        let evaluates = self.config.data.test.is_some() || self.config.data.validation.is_some();
        // Held-out prompts are asked once each: no two of them share a region of the cache.
        let slots = match evaluates {
            true => rollout.max_sequences,
            false => rollout.max_sequences.min(sampled),
        };
        let regions = if evaluates { slots } else { slots.min(rollout.prompts) };
        let prompts = (regions * self.assumed.prompt_tokens) as u64;
        let at_once = prompts.min((PROMPT_TOKENS * self.assumed.threads) as u64);
        let rows = prompts + (slots * (rollout.max_response_tokens - 1)) as u64;
        // The logits, and as much again for the choice.
        let logits = 2 * slots.min(LOGIT_ROWS) as u64 * student.logits_per_token();
        let products = self.config.precision.products();
        let packs =
            rollout.packed_weights && rollout.max_response_tokens >= packed_tokens(products);
        let guide = self.models.scorer.as_ref().filter(|_| rollout.teacher_mixed_alpha > 0.0);
        let packed = match packs {
            true => student.packed() + guide.map_or(0, Footprint::packed),
            false => 0,
        };
        vec![
            part("weights as generation reads them", packed),
            part("KV cache", rows * student.cache_per_token()),
            part("prompts' forward", at_once * student.forward_per_token()),
            part("logits", logits),
        ]
    }

    fn score(&self, batch: usize) -> Vec<Part> {
        let scorers = [Some(&self.models.student), self.models.scorer.as_ref()];
        let of = |scorer: &Footprint| {
            let tokens = batch.min(SCORED_AT_ONCE * self.assumed.threads) as u64;
            let logits = self.assumed.threads as u64 * scorer.head_chunk(tokens);
            [part("forward", tokens * scorer.forward_per_token()), part("head chunk", logits)]
        };
        let all = scorers.into_iter().flatten().map(of);
        all.max_by_key(|parts| super::sum(parts)).map(Vec::from).unwrap_or_default()
    }

    /// The fullest of three moments: at the head, when all layers are kept; at the backward of
    /// the last layer, which comes first; and at that of the first, when gradients are whole.
    fn update(&self, micro_batch: usize, batch: usize, checkpointing: Checkpointing) -> Vec<Part> {
        let Models { student, trained, .. } = self.models;
        let runs = batch.div_ceil(micro_batch);
        let at_once = self.config.optimizer.micro_batches_at_once.min(runs) as u64;
        let tokens = micro_batch as u64 * at_once;
        let kept = tokens * student.kept_per_token(checkpointing);
        let states = tokens * 5 * student.hidden_per_token();
        let layer = tokens * student.backward_per_token(checkpointing);
        let compares = self.config.objective.loss.compares_distributions();
        let theirs = self.models.scorer.as_ref().filter(|_| compares);
        let logits = at_once * student.head_chunk(micro_batch as u64)
            + theirs.map_or(0, |scorer| {
                at_once * scorer.head_chunk(micro_batch as u64) + tokens * scorer.hidden_per_token()
            });
        let table = if self.models.tables_are_trained { student.table() } else { 0 };
        let own = at_once + u64::from(at_once > 1 && runs as u64 > at_once);
        let (early, late) = match runs > 1 {
            true => (own * trained, own * trained),
            false => (table, *trained),
        };
        let moment = |gradients, kept, layer, head| {
            vec![
                part("gradients", gradients),
                part("activations", kept + layer),
                part("head chunk", head),
            ]
        };
        let first_layer = kept / student.layers().max(1);
        let mut moments = vec![
            // The head's gradient is made of zeros and a sum before it is added to.
            moment(early, kept, states, logits + at_once * (2 * table + student.rounded_head())),
            moment(early, kept, layer, 0),
            moment(late, first_layer, layer, 0),
        ];
        if let Some(critic) = &self.models.critic {
            let kept = tokens * critic.kept_per_token(checkpointing);
            moments.push(moment(late + critic.weights(), kept, layer, 0));
        }
        moments.into_iter().max_by_key(|parts| super::sum(parts)).unwrap_or_default()
    }
}
