//! A teacher of one's own: two teachers averaged, and one that fails on some tokens.
//!
//! `cargo run --release --example custom_teacher`

use opd_core::{
    ScoreRequest, Teacher, TeacherScores,
    advantage::{AdvantageEstimator, ReverseKl},
    batch::{Ragged, Result, Rollout, RolloutBatch, ScoredBatch},
};

/// Knows one token and finds every other equally unlikely.
struct Fond {
    token: u32,
    logprob: f32,
}

impl Teacher for Fond {
    fn name(&self) -> &str {
        "fond"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let rows = request.sequences.iter().map(|sequence| {
            let score = |&id: &u32| if id == self.token { self.logprob } else { -3.0 };
            sequence.response.iter().map(score).collect()
        });
        TeacherScores::complete(Ragged::from_rows(rows))
    }
}

/// The mean of two teachers' probabilities; a token that either misses is missing.
struct Ensemble<A, B>(A, B);

impl<A: Teacher, B: Teacher> Teacher for Ensemble<A, B> {
    fn name(&self) -> &str {
        "ensemble"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let (a, b) = (self.0.score(request)?, self.1.score(request)?);
        let logprobs = a.logprobs.zip_with(&b.logprobs, "second teacher", |a, b| {
            Some(((a.as_ref()?.exp() + b.as_ref()?.exp()) / 2.0).ln())
        })?;
        Ok(TeacherScores { logprobs, top: None, spans: None })
    }
}

/// Scores nothing after the first token.
struct Forgetful<T>(T);

impl<T: Teacher> Teacher for Forgetful<T> {
    fn name(&self) -> &str {
        "forgetful"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let all = self.0.score(request)?.logprobs;
        let rows = all
            .iter()
            .map(|row| row.iter().enumerate().map(|(i, score)| score.filter(|_| i == 0)).collect());
        Ok(TeacherScores { logprobs: Ragged::from_rows(rows), top: None, spans: None })
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let batch = RolloutBatch::from_rollouts(vec![Rollout {
        prompt: vec![1],
        response: vec![4, 7],
        sampler_logprobs: vec![-1.0, -1.0],
        ..Rollout::default()
    }])?;
    let request = ScoreRequest::for_batch(&batch, 1.0);
    let both = Ensemble(Fond { token: 4, logprob: -0.2 }, Fond { token: 7, logprob: -0.2 });

    let scored = ScoredBatch::from_sampler(&batch).with_teacher(both.score(&request)?)?;
    let advantages = ReverseKl::default().advantages(&scored)?;
    println!("ensemble: advantages {:?}", advantages.values());
    assert!(advantages.values().iter().all(|&a| (a - 0.166).abs() < 1e-2));

    let scored =
        ScoredBatch::from_sampler(&batch).with_teacher(Forgetful(both).score(&request)?)?;
    println!("forgetful: trained tokens {:?}", scored.mask().values());
    assert_eq!(scored.mask().values(), [true, false]);
    Ok(())
}
