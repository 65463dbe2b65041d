use std::collections::BTreeMap;

use opd_advantage::prefix_ratios;
use opd_batch::{Author, Ragged, ScoredBatch, Source, SpanToken};

use crate::{
    Error, Result,
    run::{StepMetrics, key},
};

/// Which of several teachers is for the prompts of which source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeacherNames {
    /// Names by source.
    pub by_source: BTreeMap<Source, String>,
    /// For all other sources.
    pub others: Option<String>,
}

/// Sums over the tokens of a teacher.
#[derive(Clone, Copy, Default)]
struct Sums {
    kl: f64,
    trained: f64,
    missing: f64,
    tokens: f64,
}

impl Sums {
    fn missing(&self) -> f64 {
        self.missing / self.tokens.max(1.0)
    }

    /// Mean of `old - teacher` over the student's trained tokens, in nats.
    fn kl(&self) -> Option<f64> {
        (self.trained > 0.0).then(|| self.kl / self.trained)
    }
}

/// Passes if no more than the fraction `limit` of the response tokens lacks a score.
pub(crate) fn check_missing(scored: &ScoredBatch<'_>, limit: f64) -> Result<()> {
    let missing = scored.teacher().map_or(0, opd_batch::TeacherScores::n_missing);
    let tokens = scored.rollouts().rows().n_tokens();
    match missing as f64 > limit * tokens as f64 {
        true => Err(Error::MissingScores { missing, tokens, limit }),
        false => Ok(()),
    }
}

/// What the teachers' scores come to, all together and each teacher's where there are several.
pub(crate) fn add(
    scored: &ScoredBatch<'_>,
    names: &TeacherNames,
    mut metrics: StepMetrics,
) -> Result<StepMetrics> {
    let by_row = sums(scored)?;
    let total = |rows: &mut dyn Iterator<Item = &Sums>| {
        rows.fold(Sums::default(), |sum, row| Sums {
            kl: sum.kl + row.kl,
            trained: sum.trained + row.trained,
            missing: sum.missing + row.missing,
            tokens: sum.tokens + row.tokens,
        })
    };
    let all = total(&mut by_row.iter());
    metrics = metrics.with(key::TEACHER_MISSING, all.missing());
    if let Some(kl) = all.kl() {
        metrics = metrics.with(key::REVERSE_KL, kl);
    }
    let mut of_teacher: BTreeMap<&str, Vec<&Sums>> = BTreeMap::new();
    for (source, row) in scored.rollouts().sources().iter().zip(&by_row) {
        if let Some(name) = names.by_source.get(source).or(names.others.as_ref()) {
            of_teacher.entry(name).or_default().push(row);
        }
    }
    for (name, rows) in of_teacher {
        let sums = total(&mut rows.into_iter());
        metrics = metrics.with(&format!("teacher/{name}/missing"), sums.missing());
        if let Some(kl) = sums.kl() {
            metrics = metrics.with(&format!("teacher/{name}/reverse_kl"), kl);
        }
    }
    Ok(metrics)
}

/// Share of the tokens that the teacher has no counterpart for.
pub(crate) fn unaligned(spans: &Ragged<SpanToken>) -> f64 {
    let without = spans.values().iter().filter(|&&place| place == SpanToken::Unaligned).count();
    without as f64 / spans.values().len().max(1) as f64
}

/// Adds the mean of the trained tokens' weights by the ratio of what came before them.
pub(crate) fn add_prefix_weight(
    scored: &ScoredBatch<'_>,
    power: f32,
    metrics: StepMetrics,
) -> Result<StepMetrics> {
    let weights = prefix_ratios(scored, power)?;
    let trained = weights.values().iter().zip(scored.mask().values()).filter(|(_, mask)| **mask);
    let (sum, n) = trained.fold((0.0, 0.0), |(sum, n), (w, _)| (sum + f64::from(*w), n + 1.0));
    Ok(if n > 0.0 { metrics.with(key::PREFIX_WEIGHT, sum / n) } else { metrics })
}

/// The sums of each row; only token counts without a teacher.
fn sums(scored: &ScoredBatch<'_>) -> Result<Vec<Sums>> {
    let (old, mask) = (scored.per_span(scored.old_logprobs())?, scored.mask().values());
    let teacher = scored.teacher();
    let unaligned = |token: usize| {
        let spans = teacher.and_then(|scores| scores.spans.as_ref());
        spans.is_some_and(|spans| spans.values()[token] == SpanToken::Unaligned)
    };
    let row = |(range, author): (std::ops::Range<usize>, &Author)| {
        let mut sums = Sums { tokens: range.len() as f64, ..Sums::default() };
        let Some(scores) = teacher.map(|scores| scores.logprobs.values()) else { return sums };
        for t in range {
            match scores[t] {
                None if unaligned(t) => {}
                None => sums.missing += 1.0,
                Some(score) if mask[t] && *author == Author::Student => {
                    sums.trained += 1.0;
                    if scored.ends_span(t) {
                        sums.kl += old[t] - f64::from(score);
                    }
                }
                Some(_) => {}
            }
        }
        sums
    };
    Ok(scored.rollouts().rows().ranges().zip(scored.rollouts().authors()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use opd_batch::{Ragged, Rollout, RolloutBatch, TeacherScores};

    use super::*;

    fn batch() -> RolloutBatch {
        let rollout = |source: &str, n: usize| Rollout {
            prompt: vec![1],
            response: vec![2; n],
            sampler_logprobs: vec![-1.0; n],
            source: Source::new(source),
            ..Rollout::default()
        };
        let rollouts = vec![rollout("math", 2), rollout("code", 3), rollout("chat", 1)];
        RolloutBatch::from_rollouts(rollouts).unwrap()
    }

    fn scored(batch: &RolloutBatch) -> ScoredBatch<'_> {
        let rows = [vec![Some(-1.5), None], vec![Some(-3.0); 3], vec![Some(-1.25)]];
        let scores = TeacherScores { logprobs: Ragged::from_rows(rows), top: None, spans: None };
        ScoredBatch::from_sampler(batch).with_teacher(scores).unwrap()
    }

    #[test]
    fn each_teacher_has_its_means() {
        let batch = batch();
        let named = |name: &str| name.to_owned();
        let names = TeacherNames {
            by_source: [(Source::new("math"), named("a")), (Source::new("chat"), named("a"))]
                .into(),
            others: Some(named("b")),
        };
        let metrics = add(&scored(&batch), &names, StepMetrics::new(1)).unwrap();
        let expected = [
            ("reverse_kl", (0.5 + 2.0 * 3.0 + 0.25) / 5.0),
            ("teacher/a/missing", 1.0 / 3.0),
            ("teacher/a/reverse_kl", 0.375),
            ("teacher/b/missing", 0.0),
            ("teacher/b/reverse_kl", 2.0),
            ("teacher/missing", 1.0 / 6.0),
        ];
        let got: Vec<(&str, f64)> = metrics.values.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn the_kl_is_over_what_the_student_wrote() {
        let of = |author| {
            let row = |logprob, author| Rollout {
                prompt: vec![1],
                response: vec![2],
                sampler_logprobs: vec![logprob],
                author,
                ..Rollout::default()
            };
            let rows = vec![row(-1.0, Author::Student), row(0.0, author)];
            let batch = RolloutBatch::from_rollouts(rows).unwrap();
            let scores = Ragged::from_rows([vec![Some(-1.5)], vec![Some(-9.0)]]);
            let scores = TeacherScores { logprobs: scores, top: None, spans: None };
            let scored = ScoredBatch::from_sampler(&batch).with_teacher(scores).unwrap();
            let metrics = add(&scored, &TeacherNames::default(), StepMetrics::new(1)).unwrap();
            metrics.get(key::REVERSE_KL).unwrap()
        };
        assert_eq!(of(Author::Student), (0.5 + 9.0) / 2.0);
        assert_eq!((of(Author::Label), of(Author::Teacher)), (0.5, 0.5));
    }

    #[test]
    fn weights_are_averaged_over_trained_tokens() {
        let batch = batch();
        let metrics = add_prefix_weight(&scored(&batch), 1.0, StepMetrics::new(1)).unwrap();
        // Teacher less student is -0.5 in the first row, -2 at each token of the second.
        let expected = (1.0 + (1.0 + (-2.0f64).exp() + (-4.0f64).exp()) + 1.0) / 5.0;
        let got = metrics.get(key::PREFIX_WEIGHT).unwrap();
        assert!((got - expected).abs() < 1e-7, "{got}, expected {expected}");
    }

    #[test]
    fn tokens_without_counterpart_are_a_share_of_all() {
        use SpanToken::{End, Inside, Unaligned};
        let spans = Ragged::from_rows([vec![Inside, End, Unaligned], vec![End]]);
        assert_eq!(unaligned(&spans), 0.25);
        assert_eq!(unaligned(&Ragged::from_rows([vec![], vec![]])), 0.0);
    }

    #[test]
    fn too_many_missing_scores_are_an_error() {
        let batch = batch();
        let scored = scored(&batch);
        assert!(check_missing(&scored, 0.17).is_ok());
        let error = check_missing(&scored, 0.01).unwrap_err().to_string();
        let start = "1 of 6 response tokens (16.7%) have no score by the teacher, \
                     and distillation.max_missing allows 1.0%;";
        assert!(error.starts_with(start), "{error}");
        assert!(check_missing(&ScoredBatch::from_sampler(&batch), 0.0).is_ok());
    }
}
