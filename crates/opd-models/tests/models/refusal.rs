//! Sequences that a model cannot take.

use candle_core::DType;
use opd_batch::ScoredSequence;
use opd_testkit::{GoldenModel, host};

use super::{load, tokens};

#[test]
fn a_sequence_that_does_not_fit_is_named() {
    let model = load(&GoldenModel::load("qwen3_tied").dir, DType::F32);
    let fine = ScoredSequence { prompt: &[1, 2], response: &[3] };
    let message = |prompt: &[u32], response: &[u32]| {
        let sequence = ScoredSequence { prompt, response };
        model.pack(&[fine, sequence]).unwrap_err().to_string()
    };
    assert_eq!(
        message(&[], &[1]),
        "prompt of sequence 1 is empty; a model needs at least one token"
    );
    assert_eq!(
        message(&[1, 2], &[3, 320, 321]),
        "token id 320 at token 3 of sequence 1 is outside the vocabulary of 320"
    );
    assert_eq!(
        message(&[1, u32::MAX], &[3]),
        "token id 4294967295 at token 1 of sequence 1 is outside the vocabulary of 320"
    );
    assert_eq!(
        message(&tokens(500, 1), &tokens(13, 2)),
        "sequence 1 has 513 tokens, the model's context holds 512; shorten the prompt or the response"
    );
    let (prompt, response) = (tokens(500, 1), tokens(12, 2));
    let full = ScoredSequence { prompt: &prompt, response: &response };
    let packed = model.pack(&[full]).unwrap();
    let scores = model.token_logprobs(&packed, 1.0).unwrap();
    assert!(host(&scores.logprobs).iter().all(|x| x.is_finite() && *x <= 0.0));
}

#[test]
fn nothing_to_score_is_scored_as_nothing() {
    let model = load(&GoldenModel::load("qwen2_tied").dir, DType::F32);
    let empty = ScoredSequence { prompt: &[1, 2], response: &[] };
    let one = ScoredSequence { prompt: &[1, 2], response: &[7, 8] };
    let packed = model.pack(&[empty, one, empty]).unwrap();
    assert_eq!(packed.rows().lengths().collect::<Vec<_>>(), [0, 2, 0]);
    let with = host(&model.token_logprobs(&packed, 1.0).unwrap().logprobs);
    let alone = model.pack(&[one]).unwrap();
    assert_eq!(with, host(&model.token_logprobs(&alone, 1.0).unwrap().logprobs));
    for nothing in [vec![], vec![empty]] {
        let packed = model.pack(&nothing).unwrap();
        assert!(host(&model.token_logprobs(&packed, 1.0).unwrap().logprobs).is_empty());
    }
}

#[test]
fn a_temperature_must_be_above_zero() {
    let model = load(&GoldenModel::load("qwen2_tied").dir, DType::F32);
    let packed = model.pack(&[ScoredSequence { prompt: &[1], response: &[2] }]).unwrap();
    for temperature in [0.0, -1.0, f64::NAN] {
        let message = model.token_logprobs(&packed, temperature).unwrap_err().to_string();
        assert!(message.contains("temperature must be"), "{message}");
    }
}
