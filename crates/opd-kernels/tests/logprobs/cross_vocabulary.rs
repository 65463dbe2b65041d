//! Distances over two vocabularies: against the definition, central differences and hand-made
//! numbers.

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    CrossVocabulary, Divergence, DivergenceOutput, Projection, linear_cross_vocabulary,
    linear_divergence, reference,
};
use proptest::prelude::*;

use super::{assert_close, gradients, host, ids, matrix, numbers, weighted};

/// Every `step`th id of the student is the teacher's of half its number.
fn how(vocab: usize, their_vocab: usize, step: usize, beta: f64) -> CrossVocabulary {
    let counterpart =
        |v: usize| (v.is_multiple_of(step) && v / step < their_vocab).then_some(v / step);
    CrossVocabulary {
        counterparts: (0..vocab).map(|v| counterpart(v).map(|id| id as u32)).collect(),
        beta,
        matched: 0.75,
        unmatched: 1.5,
    }
}

fn of(out: &DivergenceOutput, seed: u64) -> Tensor {
    let parts = [(&out.divergence, 0), (&out.student_entropy, 1), (&out.student_logprobs, 2)];
    let parts =
        parts.map(|(part, i)| weighted(part, &numbers(part.elem_count(), seed + i, 1.0)).unwrap());
    Tensor::stack(&parts, 0).unwrap().sum_all().unwrap()
}

fn targets(rows: usize, vocab: usize) -> Tensor {
    ids(&(0..rows).map(|row| (row * 7 % vocab) as u32).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_fused_form_is_its_definition(
        rows in 1usize..9, vocab in 1usize..40, their_vocab in 1usize..40, step in 1usize..4,
        seed in 0u64..999, temperature in 0.5f64..2.0,
        beta in prop_oneof![Just(0.0), Just(1.0), 0.05f64..0.95],
    ) {
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 5e-5)] {
            let hidden = matrix(&numbers(rows * 3, seed, 1.5), rows, 3, dtype);
            let head = matrix(&numbers(vocab * 3, seed + 1, 1.5), vocab, 3, dtype);
            let teacher_hidden = matrix(&numbers(rows * 2, seed + 3, 2.0), rows, 2, dtype);
            let teacher_head = matrix(&numbers(their_vocab * 2, seed + 4, 2.0), their_vocab, 2, dtype);
            let student = Projection::new(&hidden, &head);
            let teacher = Projection::new(&teacher_hidden, &teacher_head);
            let (how, targets) = (how(vocab, their_vocab, step, beta), targets(rows, vocab));
            let got = linear_cross_vocabulary(student, teacher, &targets, &how, temperature).unwrap();
            let want =
                reference::linear_cross_vocabulary(student, teacher, &targets, &how, temperature)
                    .unwrap();
            let close = |what: &str, got: &Tensor, want: &Tensor| {
                let want = host(want);
                assert_close(what, &host(got), &want, |i| tolerance * want[i].abs().max(1.0));
            };
            close("divergence", &got.divergence, &want.divergence);
            close("entropy", &got.student_entropy, &want.student_entropy);
            close("student", &got.student_logprobs, &want.student_logprobs);
            prop_assert!(host(&got.teacher_logprobs).iter().all(|x| x.is_nan()));
            let got = gradients(&of(&got, seed), &[&hidden, &head]).concat();
            let want = gradients(&of(&want, seed), &[&hidden, &head]).concat();
            let largest = want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            assert_close("gradient", &got, &want, |_| tolerance * largest);
        }
    }

    #[test]
    fn one_vocabulary_is_jensen_shannon(
        rows in 1usize..6, vocab in 2usize..20, seed in 0u64..999,
        beta in prop_oneof![Just(0.0), Just(1.0), 0.05f64..0.95],
    ) {
        let hidden = matrix(&numbers(rows * 3, seed, 1.5), rows, 3, DType::F64);
        let head = matrix(&numbers(vocab * 3, seed + 1, 1.5), vocab, 3, DType::F64);
        let teacher_head = matrix(&numbers(vocab * 3, seed + 2, 1.5), vocab, 3, DType::F64);
        let student = Projection::new(&hidden, &head);
        let teacher = Projection::new(&hidden, &teacher_head);
        let targets = targets(rows, vocab);
        let counterparts = (0..vocab as u32).map(Some).collect();
        let how = CrossVocabulary { counterparts, beta, matched: 1.0, unmatched: 0.0 };
        let got = linear_cross_vocabulary(student, teacher, &targets, &how, 1.0).unwrap();
        let kind = Divergence::Jsd { beta };
        let want = linear_divergence(student, teacher, &targets, kind, 1.0).unwrap();
        let want_values = host(&want.divergence);
        assert_close("divergence", &host(&got.divergence), &want_values, |_| 1e-11);
        let got = gradients(&got.divergence.sum_all().unwrap(), &[&hidden, &head]).concat();
        let want = gradients(&want.divergence.sum_all().unwrap(), &[&hidden, &head]).concat();
        assert_close("gradient", &got, &want, |_| 1e-10);
    }

    #[test]
    fn names_of_ids_without_counterpart_do_not_matter(
        vocab in 2usize..20, turn in 0usize..20, seed in 0u64..999,
    ) {
        let logits = numbers(vocab, seed, 2.0);
        let turned: Vec<f64> = (0..vocab).map(|v| logits[(v + turn) % vocab]).collect();
        let one = matrix(&[1.0], 1, 1, DType::F64);
        let [ours, theirs] = [&logits, &turned].map(|x| matrix(x, vocab, 1, DType::F64));
        let student = Projection::new(&one, &ours);
        let teacher = Projection::new(&one, &theirs);
        let how = CrossVocabulary::unmatched(vocab);
        let out = linear_cross_vocabulary(student, teacher, &ids(&[0]), &how, 1.0).unwrap();
        prop_assert!(host(&out.divergence)[0].abs() < 1e-14);
    }
}

#[test]
fn the_shorter_list_goes_on_with_zeros() {
    let one = matrix(&[1.0], 1, 1, DType::F64);
    let row =
        |p: &[f64]| matrix(&p.iter().map(|p| p.ln()).collect::<Vec<_>>(), p.len(), 1, DType::F64);
    let distance = |p: &[f64], q: &[f64]| {
        let (ours, theirs) = (row(p), row(q));
        let student = Projection::new(&one, &ours);
        let teacher = Projection::new(&one, &theirs);
        let how = CrossVocabulary::unmatched(p.len());
        let out = linear_cross_vocabulary(student, teacher, &ids(&[0]), &how, 1.0).unwrap();
        host(&out.divergence)[0]
    };
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-14, "{got}, not {want}");
    close(distance(&[0.25, 0.75], &[0.5, 0.2, 0.3]), 0.25 + 0.05 + 0.2);
    close(distance(&[0.5, 0.2, 0.3], &[0.25, 0.75]), 0.5);
    close(distance(&[1.0], &[0.5, 0.5]), 1.0);
}

#[test]
fn central_differences() {
    const STEP: f64 = 1e-6;
    let (rows, vocab, their_vocab) = (3, 6, 5);
    let hidden = matrix(&numbers(rows * 4, 5, 1.0), rows, 4, DType::F64);
    let head = matrix(&numbers(vocab * 4, 6, 1.0), vocab, 4, DType::F64);
    let teacher_hidden = matrix(&numbers(rows * 2, 9, 1.0), rows, 2, DType::F64);
    let teacher_head = matrix(&numbers(their_vocab * 2, 10, 1.0), their_vocab, 2, DType::F64);
    let teacher = Projection::new(&teacher_hidden, &teacher_head);
    let targets = ids(&[0, 5, 2]);
    for beta in [0.0, 0.3, 1.0] {
        let how = how(vocab, their_vocab, 2, beta);
        let f = |hidden: &Var, head: &Var| {
            let student = Projection::new(hidden, head);
            of(&linear_cross_vocabulary(student, teacher, &targets, &how, 1.3).unwrap(), 11)
        };
        let analytic = gradients(&f(&hidden, &head), &[&hidden]).concat();
        let values = host(&hidden);
        for (i, analytic) in analytic.into_iter().enumerate() {
            let at = |step: f64| {
                let mut values = values.clone();
                values[i] += step;
                f(&matrix(&values, rows, 4, DType::F64), &head).to_scalar::<f64>().unwrap()
            };
            let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!((analytic - numeric).abs() < 2e-8, "{beta}, {i}: {analytic}, {numeric}");
        }
    }
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let hidden = matrix(&[1.0], 1, 1, DType::F64);
    let (ours, theirs) = (matrix(&[1.0; 3], 3, 1, DType::F64), matrix(&[1.0; 2], 2, 1, DType::F64));
    let student = Projection::new(&hidden, &ours);
    let teacher = Projection::new(&hidden, &theirs);
    let refusal = |edit: &dyn Fn(&mut CrossVocabulary)| {
        let mut how = CrossVocabulary::unmatched(3);
        edit(&mut how);
        let out = linear_cross_vocabulary(student, teacher, &ids(&[0]), &how, 1.0);
        out.unwrap_err().to_string()
    };
    assert!(refusal(&|how| how.counterparts = vec![None; 2]).contains("counterparts"));
    let twice = refusal(&|how| how.counterparts = vec![Some(1), None, Some(1)]);
    assert!(twice.contains("an id of the teacher that no other id has"), "{twice}");
    assert!(refusal(&|how| how.counterparts[0] = Some(2)).contains('2'));
    assert!(refusal(&|how| how.beta = 1.5).contains("beta"));
    assert!(refusal(&|how| how.matched = -1.0).contains("matched"));
    assert!(refusal(&|how| how.unmatched = f64::NAN).contains("unmatched"));
    let two = Tensor::zeros((2, 1), DType::F64, &Device::Cpu).unwrap();
    let teacher = Projection::new(&two, &theirs);
    let how = CrossVocabulary::unmatched(3);
    let rows = linear_cross_vocabulary(student, teacher, &ids(&[0]), &how, 1.0).unwrap_err();
    assert!(rows.to_string().contains("[1, _]"), "{rows}");
}

#[test]
fn nan_in_either_model_is_no_distance_of_0() {
    let fine = matrix(&[1.0], 1, 1, DType::F64);
    let broken = matrix(&[f64::NAN], 1, 1, DType::F64);
    let head = matrix(&[1.0, 2.0, 3.0], 3, 1, DType::F64);
    for (ours, theirs) in [(&fine, &broken), (&broken, &fine)] {
        let student = Projection::new(ours, &head);
        let teacher = Projection::new(theirs, &head);
        let how = CrossVocabulary::unmatched(3);
        let out = linear_cross_vocabulary(student, teacher, &ids(&[0]), &how, 1.0).unwrap();
        assert!(host(&out.divergence)[0].is_nan());
    }
}
