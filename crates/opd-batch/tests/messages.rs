//! Every message, word for word: users and log scrapers read them.
#![allow(clippy::unwrap_used)]

use opd_batch::{
    Error, Ragged, Rollout, RolloutBatch, Rows, ScoredBatch, SpanToken, TeacherScores, TopLogprobs,
};

fn rollout() -> Rollout {
    Rollout {
        prompt: vec![1],
        response: vec![2, 3],
        sampler_logprobs: vec![-0.5, -1.0],
        ..Rollout::default()
    }
}

/// The message of a batch whose second rollout is `bad`.
fn refusal(bad: Rollout) -> String {
    RolloutBatch::from_rollouts(vec![rollout(), bad]).unwrap_err().to_string()
}

#[test]
fn no_rollouts() {
    let error = RolloutBatch::from_rollouts(vec![]).unwrap_err();
    assert_eq!(error.to_string(), "the batch has no rollouts; sample at least one");
}

#[test]
fn empty_prompt() {
    let message = refusal(Rollout { prompt: vec![], ..rollout() });
    assert_eq!(message, "prompt of rollout 1 is empty; drop the rollout before building the batch");
}

#[test]
fn empty_response() {
    let bad = Rollout { response: vec![], sampler_logprobs: vec![], ..rollout() };
    let expected = "response of rollout 1 is empty; drop the rollout before building the batch";
    assert_eq!(refusal(bad), expected);
}

#[test]
fn streams_of_another_length() {
    let cases = [
        ("sampler_logprobs", 1, Rollout { sampler_logprobs: vec![-0.5], ..rollout() }),
        ("truncated_logprobs", 3, Rollout { truncated_logprobs: Some(vec![-0.5; 3]), ..rollout() }),
        ("loss_mask", 0, Rollout { loss_mask: Some(vec![]), ..rollout() }),
    ];
    for (what, got, bad) in cases {
        let expected =
            format!("{what} of rollout 1: expected 2 values, one per response token, got {got}");
        assert_eq!(refusal(bad), expected);
    }
}

#[test]
fn values_that_are_not_finite() {
    let nan = f32::NAN;
    let cases = [
        (
            "reward: inf is not finite at row 1, token 0",
            Rollout { reward: f32::INFINITY, ..rollout() },
        ),
        (
            "sampler_logprobs: NaN is not finite at row 1, token 1",
            Rollout { sampler_logprobs: vec![-0.5, nan], ..rollout() },
        ),
        (
            "truncated_logprobs: -inf is not finite at row 1, token 0",
            Rollout { truncated_logprobs: Some(vec![f32::NEG_INFINITY, 0.0]), ..rollout() },
        ),
    ];
    for (expected, bad) in cases {
        assert_eq!(refusal(bad), expected);
    }
}

#[test]
fn logprobs_above_zero() {
    let expected = "sampler_logprobs: 0.25 at row 1, token 1 is above 0; \
                    log-probs are natural logarithms of probabilities";
    let bad = Rollout { sampler_logprobs: vec![-0.5, 0.25], ..rollout() };
    assert_eq!(refusal(bad), expected);
    let rounded = Rollout { sampler_logprobs: vec![0.0, 5e-5], ..rollout() };
    assert!(RolloutBatch::from_rollouts(vec![rounded]).is_ok());
}

#[test]
fn packed_values_of_another_length() {
    let error = Ragged::new("values", Rows::from_lengths([2, 0, 1]), vec![1.0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "values: expected 3 values, got 4");
}

#[test]
fn a_row_outside_the_batch() {
    let error = Ragged::from_rows([vec![1], vec![]]).select(&[1, 2]).unwrap_err();
    assert_eq!(error.to_string(), "row 2 is outside the batch of 2 rows");
}

#[test]
fn misaligned_streams() {
    let batch = RolloutBatch::from_rollouts(vec![rollout(), rollout()]).unwrap();
    let crooked = || Ragged::from_rows([vec![-0.1], vec![-0.2, -0.3, -0.4]]);
    let scored = || ScoredBatch::from_sampler(&batch);
    let teacher = || TeacherScores::complete(crooked()).unwrap();
    let cases = [
        ("old_logprobs", ScoredBatch::new(&batch, crooked())),
        ("teacher_logprobs", scored().with_teacher(teacher())),
        ("reference_logprobs", scored().with_reference(crooked())),
        ("values", scored().with_values(crooked())),
    ];
    for (what, result) in cases {
        let expected = format!(
            "{what}: row boundaries differ from the batch's; build it with the batch's `Rows`"
        );
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[test]
fn streams_that_are_not_finite() {
    let batch = RolloutBatch::from_rollouts(vec![rollout(), rollout()]).unwrap();
    let broken = || Ragged::from_rows([vec![-0.1, -0.2], vec![f32::NAN, -0.4]]);
    let scored = || ScoredBatch::from_sampler(&batch);
    let teacher =
        || TeacherScores { logprobs: broken().map(|&value| Some(value)), top: None, spans: None };
    let cases = [
        ("old_logprobs", ScoredBatch::new(&batch, broken())),
        ("teacher_logprobs", scored().with_teacher(teacher())),
        ("reference_logprobs", scored().with_reference(broken())),
        ("values", scored().with_values(broken())),
    ];
    for (what, result) in cases {
        let expected = format!("{what}: NaN is not finite at row 1, token 0");
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[test]
fn teacher_scores_above_zero() {
    let error = TeacherScores::complete(Ragged::from_rows([vec![], vec![-0.1, 1.5]])).unwrap_err();
    let expected = "teacher_logprobs: 1.5 at row 1, token 1 is above 0; \
                    log-probs are natural logarithms of probabilities";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn top_logprobs_of_another_length() {
    let scores = |n_ids, n_logprobs| TeacherScores {
        logprobs: Ragged::from_rows([vec![Some(-0.1), None], vec![Some(-0.2)]]),
        top: Some(TopLogprobs { k: 2, ids: vec![0; n_ids], logprobs: vec![-1.0; n_logprobs] }),
        spans: None,
    };
    assert!(scores(6, 6).check().is_ok());
    let message = |scores: TeacherScores| scores.check().unwrap_err().to_string();
    assert_eq!(message(scores(5, 6)), "top ids: expected 6 values, got 5");
    assert_eq!(message(scores(6, 3)), "top log-probs: expected 6 values, got 3");
}

#[test]
fn missing_streams() {
    let batch = RolloutBatch::from_rollouts(vec![rollout()]).unwrap();
    let scored = ScoredBatch::from_sampler(&batch);
    assert_eq!(
        scored.teacher_logprobs("ReverseKl").unwrap_err().to_string(),
        "ReverseKl needs teacher log-probs; \
         call `Teacher::score` and `ScoredBatch::with_teacher` first"
    );
    assert_eq!(
        scored.reference_logprobs("Gae").unwrap_err().to_string(),
        "Gae needs reference log-probs; \
         score the batch with the start policy and call `ScoredBatch::with_reference`"
    );
    assert_eq!(
        scored.values("Gae").unwrap_err().to_string(),
        "Gae needs value estimates; call `ScoredBatch::with_values`"
    );
}

#[test]
fn errors_of_teachers() {
    let unsupported = Error::Unsupported {
        teacher: "big".into(),
        wanted: "top-k log-probs".into(),
        remedy: "ask for the sampled tokens only".into(),
    };
    assert_eq!(
        unsupported.to_string(),
        "teacher `big` cannot give top-k log-probs; ask for the sampled tokens only"
    );
    let source = std::io::Error::other("connection refused");
    let failed = Error::Teacher { teacher: "big".into(), source: Box::new(source) };
    assert_eq!(failed.to_string(), "teacher `big` failed");
    let source = std::error::Error::source(&failed).unwrap();
    assert_eq!(source.to_string(), "connection refused");
}

#[test]
fn spans_that_do_not_fit_their_scores() {
    use SpanToken::{End, Inside, Unaligned};
    let scores = |spans: [SpanToken; 3], scores: [Option<f32>; 3]| TeacherScores {
        logprobs: Ragged::from_rows([vec![Some(-0.1)], scores.to_vec()]),
        top: None,
        spans: Some(Ragged::from_rows([vec![End], spans.to_vec()])),
    };
    let (a, b) = (Some(-0.5), Some(-0.7));
    assert!(scores([Inside, End, Unaligned], [a, a, None]).check().is_ok());
    assert!(scores([Inside, End, End], [None, None, b]).check().is_ok());
    let cases = [
        ([Inside, Unaligned, End], [a, None, b], "a span has no end at row 1, token 0"),
        ([End, End, Inside], [a, b, b], "a span has no end at row 1, token 2"),
        (
            [Inside, End, End],
            [a, b, b],
            "two tokens of one span have different scores at row 1, token 0",
        ),
        (
            [End, Unaligned, End],
            [a, a, b],
            "a token without counterpart has a score at row 1, token 1",
        ),
    ];
    for (spans, values, expected) in cases {
        let message = scores(spans, values).check().unwrap_err().to_string();
        let end = "a span ends with `End`, and its tokens share one score";
        assert_eq!(message, format!("spans: {expected}; {end}"));
    }
}
