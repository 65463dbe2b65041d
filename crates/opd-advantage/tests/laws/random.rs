use opd_advantage::{
    AdvantageEstimator, Baseline, DiscountedReturn, DrGrpo, ExtrapolatedKl, FutureKl, Gae, Grpo,
    MaxRl, Opo, PassAtK, RawReward, ReinforcePlusPlus, ReinforcePlusPlusBaseline, ReverseKl, Rloo,
};
use opd_batch::{KlEstimator, Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};
use proptest::{collection::vec, prelude::*};

/// Everything known of one response token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) old: f32,
    pub(crate) teacher: Option<f32>,
    pub(crate) reference: f32,
    pub(crate) value: f32,
    pub(crate) mask: bool,
}

/// Group, reward and tokens.
pub(crate) type Row = (u32, f32, Vec<Token>);

fn token() -> impl Strategy<Value = Token> {
    let logprob = || -6.0..0.0f32;
    let teacher = proptest::option::weighted(0.8, logprob());
    let mask = prop::bool::weighted(0.7);
    (logprob(), teacher, logprob(), -2.0..2.0f32, mask).prop_map(
        |(old, teacher, reference, value, mask)| Token { old, teacher, reference, value, mask },
    )
}

pub(crate) fn batches() -> impl Strategy<Value = Vec<Row>> {
    vec((0..3u32, -2.0..2.0f32, vec(token(), 1..6)), 1..9)
}

fn rollouts(rows: &[Row]) -> RolloutBatch {
    let rollouts = rows.iter().map(|(group, reward, tokens)| Rollout {
        prompt: vec![1],
        response: vec![2; tokens.len()],
        sampler_logprobs: tokens.iter().map(|token| token.old).collect(),
        loss_mask: Some(tokens.iter().map(|token| token.mask).collect()),
        reward: *reward,
        group: *group,
        ..Rollout::default()
    });
    RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
}

pub(crate) fn stream<T>(rows: &[Row], of: impl Fn(&Token) -> T) -> Ragged<T> {
    Ragged::from_rows(rows.iter().map(|(_, _, tokens)| tokens.iter().map(&of).collect()))
}

pub(crate) fn with_scored<T>(rows: &[Row], f: impl FnOnce(&ScoredBatch<'_>) -> T) -> T {
    let rollouts = rollouts(rows);
    let logprobs = stream(rows, |token| token.teacher);
    let scored = ScoredBatch::from_sampler(&rollouts);
    let scored = scored.with_teacher(TeacherScores { logprobs, top: None, spans: None }).unwrap();
    let scored = scored.with_reference(stream(rows, |token| token.reference)).unwrap();
    f(&scored.with_values(stream(rows, |token| token.value)).unwrap())
}

pub(crate) fn advantages(estimator: &dyn AdvantageEstimator, rows: &[Row]) -> Ragged<f32> {
    with_scored(rows, |scored| estimator.advantages(scored).unwrap())
}

pub(crate) fn trained(rows: &[Row]) -> Vec<bool> {
    stream(rows, |token| token.mask && token.teacher.is_some()).into_values()
}

/// Repeats the first row, so that two trained tokens have KLs that differ.
pub(crate) fn disagree_twice(rows: &mut Vec<Row>) {
    rows.push(rows[0].clone());
    for (row, kl) in [(0, 0.0), (rows.len() - 1, 2.0)] {
        let token = &mut rows[row].2[0];
        (token.mask, token.teacher) = (true, Some(token.old - kl));
    }
}

pub(crate) fn group_estimators() -> Vec<(&'static str, Box<dyn AdvantageEstimator>)> {
    vec![
        ("Grpo", Box::new(Grpo)),
        ("DrGrpo", Box::new(DrGrpo)),
        ("Rloo", Box::new(Rloo)),
        ("Opo", Box::new(Opo)),
        ("PassAtK", Box::new(PassAtK { k: 2 })),
        ("Return", Box::new(DiscountedReturn { gamma: 0.9, baseline: Baseline::LeaveOneOut })),
        ("ReinforcePlusPlusBaseline", Box::new(ReinforcePlusPlusBaseline::default())),
    ]
}

pub(crate) fn all_estimators() -> Vec<(&'static str, Box<dyn AdvantageEstimator>)> {
    let (kl_coef, gamma, lambda) = (0.3, 0.9, 0.8);
    let mut all = group_estimators();
    let others: Vec<(_, Box<dyn AdvantageEstimator>)> = vec![
        ("RawReward", Box::new(RawReward)),
        ("Gae", Box::new(Gae { kl_coef, kl: KlEstimator::K1, gamma, lambda })),
        ("ReinforcePlusPlus", Box::new(ReinforcePlusPlus { kl_coef, kl: KlEstimator::K2, gamma })),
        ("ReverseKl", Box::new(ReverseKl { coef: 0.7, discount: 0.5 })),
        ("MaxRl", Box::new(MaxRl)),
        ("ExtrapolatedKl", Box::new(ExtrapolatedKl { coef: 0.7, lambda: 1.5, discount: 0.5 })),
        ("FutureKl", Box::new(FutureKl { coef: 0.7, ..FutureKl::default() })),
        ("PrefixWeighted", Box::new(ReverseKl::default().prefix_weighted(0.5))),
        ("PrefixRatio", Box::new(ReverseKl::default().prefix_ratio(0.7))),
        ("Plus", Box::new(Rloo.plus(ReverseKl::default()))),
    ];
    all.extend(others);
    all
}

pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!((got - expected).abs() <= allowed, "{what}: {got} for {expected} at {at}");
    }
}
