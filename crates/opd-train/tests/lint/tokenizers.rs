//! Distributions over two vocabularies: what is lost by comparing ids, and by sorting.

use opd_loss::{
    CrossVocabulary, CrossVocabularyObjective, Divergence, DivergenceObjective, Objective,
};

use crate::world::{
    STUDENT, TEACHER, assert_differ, assert_same, batch, kl, logprobs, objective, rollouts, scored,
};

/// The same probabilities with the ids in another order.
fn renumbered(logits: &[f64]) -> Vec<f64> {
    logits.iter().copied().cycle().skip(2).take(logits.len()).collect()
}

/// Value and gradient on the student's first id.
fn of(loss: &dyn Objective, student: &[f64], teacher: &[f64]) -> (f64, Vec<f64>) {
    let sampled = logprobs(student, 1.0);
    let one = rollouts(&sampled[..1]);
    let scored = scored(&one, &sampled[..1], &sampled[..1]);
    let batch = batch(&scored, &opd_advantage::ZeroAdvantage);
    objective(loss, student, Some(teacher), &batch).unwrap()
}

pub(crate) fn one_text_under_two_numberings_is_no_agreement() {
    let divergence = DivergenceObjective::new(Divergence::ReverseKl).unwrap();
    let theirs = renumbered(&STUDENT);
    let (value, gradient) = of(&divergence, &STUDENT, &theirs);
    assert!((value - kl(&STUDENT, &theirs)).abs() < 1e-9 && value > 0.1, "{value}");
    assert_differ(&gradient, &[0.0; 5]);
    let counterparts = (0..5u32).map(|id| Some((id + 3) % 5)).collect();
    let how = CrossVocabulary { counterparts, beta: 1.0, matched: 1.0, unmatched: 1.0 };
    let (value, gradient) = of(&CrossVocabularyObjective::new(how), &STUDENT, &theirs);
    assert!(value.abs() < 1e-12, "the counterparts agree: {value}");
    assert_same(&gradient, &[0.0; 5]);
}

pub(crate) fn sorting_forgets_which_token_is_likely() {
    let uld = CrossVocabularyObjective::new(CrossVocabulary::unmatched(5));
    let theirs = renumbered(&STUDENT);
    let (value, gradient) = of(&uld, &STUDENT, &theirs);
    assert!(value.abs() < 1e-12 && kl(&STUDENT, &theirs) > 0.1);
    assert_same(&gradient, &[0.0; 5]);
    let (value, _) = of(&uld, &STUDENT, &TEACHER);
    assert!(value > 0.01, "{value}");
}
