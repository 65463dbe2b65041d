//! Golden vectors, computed by another implementation in `f32`; `data/estimators.json` names it.
//!
//! Its distillation signal ignores the mask and ours does not, so where the two are added the
//! comparison is over tokens with mask 1; masked tokens are compared with the base estimator.
#![allow(clippy::unwrap_used)]

use opd_advantage::{
    AdvantageEstimator, DrGrpo, Gae, Grpo, ReinforcePlusPlus, ReinforcePlusPlusBaseline, Result,
    ReverseKl,
};
use opd_batch::{KlEstimator, Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};
use serde_json::Value;

struct Case {
    name: String,
    json: Value,
    rollouts: RolloutBatch,
}

impl Case {
    fn new(json: Value) -> Self {
        let old = rows(&json["old_log_probs"]);
        let masks = rows(&json["loss_masks"]);
        let rewards = numbers(&json["rewards"]);
        let per_group = json["samples_per_group"].as_u64().unwrap() as usize;
        let rollouts = old.into_iter().zip(masks).zip(rewards).enumerate();
        let rollouts = rollouts.map(|(row, ((logprobs, mask), reward))| Rollout {
            prompt: vec![0],
            response: vec![0; logprobs.len()],
            sampler_logprobs: logprobs,
            loss_mask: Some(mask.into_iter().map(|mask| mask == 1.0).collect()),
            reward,
            group: (row / per_group) as u32,
            ..Rollout::default()
        });
        let rollouts = RolloutBatch::from_rollouts(rollouts.collect()).unwrap();
        Self { name: format!("case {}", json["case"]), json, rollouts }
    }

    fn scored(&self) -> ScoredBatch<'_> {
        let stream = |name: &str| Ragged::from_rows(rows(&self.json[name]));
        let teacher = TeacherScores::complete(stream("teacher_log_probs")).unwrap();
        let scored = ScoredBatch::from_sampler(&self.rollouts).with_teacher(teacher).unwrap();
        let scored = scored.with_reference(stream("ref_log_probs")).unwrap();
        scored.with_values(stream("values")).unwrap()
    }

    fn setting(&self, name: &str) -> f32 {
        self.json[name].as_f64().unwrap() as f32
    }

    fn expected(&self, name: &str) -> Ragged<f32> {
        Ragged::from_rows(rows(&self.json["expected"][name]))
    }

    /// A group's value per row, repeated over its tokens.
    fn expected_rows(&self, name: &str) -> Ragged<f32> {
        let values = numbers(&self.json["expected"][name]);
        let lengths = self.rollouts.rows().lengths();
        Ragged::from_rows(values.into_iter().zip(lengths).map(|(value, n)| vec![value; n]))
    }

    /// The estimators under test with the names that the vectors give them.
    fn bases(&self) -> Vec<(&'static str, Box<dyn AdvantageEstimator>)> {
        let (kl_coef, kl) = (self.setting("kl_coef"), KlEstimator::K1);
        let (gamma, lambda) = (self.setting("gamma"), self.setting("lambd"));
        vec![
            ("grpo", Box::new(Grpo)),
            ("ppo", Box::new(Gae { kl_coef, kl, gamma, lambda })),
            ("reinforce_plus_plus", Box::new(ReinforcePlusPlus { kl_coef, kl, gamma })),
            ("reinforce_plus_plus_baseline", Box::new(ReinforcePlusPlusBaseline { kl_coef, kl })),
        ]
    }

    fn signal(&self) -> ReverseKl {
        ReverseKl { coef: self.setting("opd_kl_coef"), ..ReverseKl::default() }
    }

    fn assert_close(&self, what: &str, got: &Ragged<f32>, expected: &Ragged<f32>) {
        let all = Ragged::filled(expected.rows().clone(), true);
        self.assert_close_where(&all, what, got, expected);
    }

    fn assert_close_where(
        &self,
        mask: &Ragged<bool>,
        what: &str,
        got: &Ragged<f32>,
        expected: &Ragged<f32>,
    ) {
        assert_eq!(got.rows(), expected.rows(), "{}, {what}", self.name);
        for (at, (got, expected)) in got.values().iter().zip(expected.values()).enumerate() {
            let tolerance = 1e-6 + 1e-5 * expected.abs();
            let is_close = (got - expected).abs() <= tolerance;
            let place = got_place(mask, at);
            assert!(
                is_close || !mask.values()[at],
                "{}, {what}: {got} for {expected} at {place}",
                self.name
            );
        }
    }
}

fn got_place(mask: &Ragged<bool>, at: usize) -> String {
    let (row, token) = mask.rows().locate(at).unwrap();
    format!("row {row}, token {token}")
}

fn numbers(json: &Value) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn rows(json: &Value) -> Vec<Vec<f32>> {
    json.as_array().unwrap().iter().map(numbers).collect()
}

fn cases() -> Vec<Case> {
    let json: Value = serde_json::from_str(include_str!("data/estimators.json")).unwrap();
    let cases: Vec<_> = json["cases"].as_array().unwrap().iter().cloned().map(Case::new).collect();
    assert!(cases.len() >= 9, "the data has {} cases", cases.len());
    cases
}

/// Gives back what it holds: an estimator from outside the crate.
struct Given(Ragged<f32>);

impl AdvantageEstimator for Given {
    fn advantages(&self, _: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        Ok(self.0.clone())
    }
}

#[test]
fn kl_estimates() {
    let named = [
        ("kl_k1", KlEstimator::K1),
        ("kl_k2", KlEstimator::K2),
        ("kl_k3", KlEstimator::K3),
        ("kl_low_var_kl", KlEstimator::LowVar),
    ];
    for case in cases() {
        let scored = case.scored();
        for (name, kl) in named {
            let reference = scored.reference_logprobs("test").unwrap();
            let got = scored.old_logprobs();
            let got = got.zip_with(reference, name, |&x, &y| kl.value(x, y)).unwrap();
            case.assert_close(name, &got, &case.expected(name));
        }
    }
}

#[test]
fn group_rewards() {
    for case in cases() {
        let scored = case.scored();
        for (name, got) in [
            ("group_centered", DrGrpo.advantages(&scored)),
            ("group_normalized", Grpo.advantages(&scored)),
        ] {
            case.assert_close(name, &got.unwrap(), &case.expected_rows(name));
        }
    }
}

#[test]
fn base_advantages_on_every_token() {
    for case in cases() {
        for (name, estimator) in case.bases() {
            let got = estimator.advantages(&case.scored()).unwrap();
            case.assert_close(name, &got, &case.expected(&format!("adv_{name}")));
        }
    }
}

#[test]
fn ppo_returns() {
    for case in cases() {
        let gae = Gae {
            kl_coef: case.setting("kl_coef"),
            kl: KlEstimator::K1,
            gamma: case.setting("gamma"),
            lambda: case.setting("lambd"),
        };
        let got = gae.estimate(&case.scored()).unwrap();
        case.assert_close("ppo_returns", &got.returns, &case.expected("ppo_returns"));
        case.assert_close("adv_ppo", &got.advantages, &case.expected("adv_ppo"));
    }
}

#[test]
fn distillation_on_top_of_each_base() {
    for case in cases() {
        let scored = case.scored();
        let masked_out = scored.mask().map(|mask| !mask);
        for (name, base) in case.bases() {
            let got = base.plus(case.signal()).advantages(&scored).unwrap();
            let expected = case.expected(&format!("adv_opd_{name}"));
            case.assert_close_where(scored.mask(), name, &got, &expected);
            let base = case.expected(&format!("adv_{name}"));
            case.assert_close_where(&masked_out, name, &got, &base);
        }
    }
}

#[test]
fn distillation_then_whitening() {
    for case in cases() {
        let scored = case.scored();
        for (name, base) in case.bases() {
            let expected = case.expected(&format!("adv_opd_whitened_{name}"));
            let got = base.plus(case.signal()).whitened().advantages(&scored).unwrap();
            case.assert_close_where(scored.mask(), name, &got, &expected);

            let unmasked = Given(case.expected(&format!("adv_opd_{name}")));
            let got = unmasked.whitened().advantages(&scored).unwrap();
            case.assert_close(name, &got, &expected);
        }
    }
}

#[test]
fn discounted_distillation_on_every_token() {
    for case in cases() {
        for (name, discount) in [("adv_tinker_discount_0.0", 0.0), ("adv_tinker_discount_0.9", 0.9)]
        {
            let estimator = Grpo.plus(ReverseKl { discount, ..case.signal() });
            let got = estimator.advantages(&case.scored()).unwrap();
            case.assert_close(name, &got, &case.expected(name));
        }
    }
}
