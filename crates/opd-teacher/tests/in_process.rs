//! The in-process teacher: scores are the model's, however they are cut; checks and messages.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device};
use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_models::CausalLm;
use opd_teacher::{DistributionTeacher, InProcessTeacher, States};
use opd_testkit::{GoldenModel, ModelDir, assert_close, host, numbers};

fn load(dir: impl AsRef<std::path::Path>) -> CausalLm {
    CausalLm::load(dir, DType::F32, &Device::Cpu).unwrap()
}

fn teacher(name: &str) -> InProcessTeacher {
    InProcessTeacher::load(GoldenModel::load(name).dir, DType::F32, &Device::Cpu).unwrap()
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    numbers(n, seed, 160.0).into_iter().map(|x| (x + 160.0) as u32).collect()
}

/// Two prompts, each answered three times, and an empty response.
fn pairs() -> Vec<(Vec<u32>, Vec<u32>)> {
    let lengths = [5, 9, 1, 12, 0, 7];
    let pair =
        |(i, n): (usize, usize)| (tokens(4 + i % 2, (i % 2) as u64), tokens(n, 9 + i as u64));
    lengths.into_iter().enumerate().map(pair).collect()
}

fn score(
    teacher: &InProcessTeacher,
    pairs: &[(Vec<u32>, Vec<u32>)],
    temperature: f32,
    wanted: Wanted,
) -> opd_batch::Result<TeacherScores> {
    let sequences = pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response });
    teacher.score(&ScoreRequest {
        sequences: sequences.collect(),
        temperature,
        wanted,
        sources: &[],
    })
}

#[test]
fn scores_are_those_of_transformers() {
    for golden in GoldenModel::all() {
        let teacher = InProcessTeacher::load(&golden.dir, DType::F32, &Device::Cpu).unwrap();
        let pairs: Vec<_> =
            golden.sequences.iter().map(|s| (s[..1].to_vec(), s[1..].to_vec())).collect();
        for (temperature, expected) in [
            (1.0, golden.cases.iter().map(|case| case.log_probs.clone()).collect::<Vec<_>>()),
            (
                golden.temperature as f32,
                golden.cases.iter().map(|case| case.log_probs_at_temperature.clone()).collect(),
            ),
        ] {
            let scores = score(&teacher, &pairs, temperature, Wanted::Sampled).unwrap();
            let got: Vec<f64> =
                scores.logprobs.values().iter().map(|score| score.unwrap().into()).collect();
            assert_close(&got, &expected.concat(), 1e-4);
            assert_eq!(scores.n_missing(), 0);
        }
    }
}

#[test]
fn the_token_budget_does_not_change_a_bit() {
    let pairs = pairs();
    let want = score(&teacher("qwen3_tied"), &pairs, 0.7, Wanted::Sampled).unwrap();
    assert_eq!(want.logprobs.rows().lengths().collect::<Vec<_>>(), [5, 9, 1, 12, 0, 7]);
    for budget in [0, 1, 20, 31, 1000] {
        let teacher = teacher("qwen3_tied").with_token_budget(budget);
        assert_eq!(score(&teacher, &pairs, 0.7, Wanted::Sampled).unwrap(), want);
    }
    let nothing = score(&teacher("qwen3_tied"), &[], 1.0, Wanted::Sampled).unwrap();
    assert!(nothing.logprobs.values().is_empty());
}

#[test]
fn states_are_the_distributions_that_score() {
    let teacher = teacher("qwen2_tied");
    let pairs = pairs();
    let sequences: Vec<_> =
        pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response }).collect();
    let states = teacher.states(&sequences).unwrap();
    let targets: Vec<u32> = pairs.iter().flat_map(|(_, response)| response.clone()).collect();
    assert_eq!((states.hidden.dims(), states.head.dims()), (&[34, 64][..], &[320, 64][..]));
    assert!(!states.hidden.track_op() && !states.head.as_ref().track_op());
    let logits =
        states.hidden.matmul(&states.head.as_ref().to_tensor().unwrap().t().unwrap()).unwrap();
    let direct: Vec<f64> = host(&logits)
        .chunks(320)
        .zip(&targets)
        .map(|(row, &id)| row[id as usize] - row.iter().map(|x| x.exp()).sum::<f64>().ln())
        .collect();
    let scores = score(&teacher, &pairs, 1.0, Wanted::Sampled).unwrap();
    let got: Vec<f64> = scores.logprobs.values().iter().map(|s| s.unwrap().into()).collect();
    assert_close(&got, &direct, 1e-5);
}

/// `log softmax(hidden head^T / temperature)` in f64, one row per response token.
fn distributions(
    teacher: &InProcessTeacher,
    pairs: &[(Vec<u32>, Vec<u32>)],
    temperature: f64,
) -> Vec<Vec<f64>> {
    let sequences: Vec<_> =
        pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response }).collect();
    let States { hidden, head, .. } = teacher.states(&sequences).unwrap();
    let vocab = head.dims()[0];
    let double = |t: &candle_core::Tensor| t.to_dtype(DType::F64).unwrap();
    let logits =
        double(&hidden).matmul(&double(&head.as_ref().to_tensor().unwrap()).t().unwrap()).unwrap();
    let row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|x| ((x - max) / temperature).exp()).sum();
        row.iter().map(|x| (x - max) / temperature - sum.ln()).collect()
    };
    host(&logits).chunks(vocab).map(row).collect()
}

#[test]
fn the_likeliest_ids_are_those_of_the_whole_distribution() {
    let pairs = pairs();
    for (name, k) in [("qwen3_untied", 1), ("llama3_rope_untied", 7), ("qwen2_tied", 320)] {
        for temperature in [1.0f32, 0.6, 2.5] {
            let teacher = teacher(name);
            let scores = score(&teacher, &pairs, temperature, Wanted::TopK(k)).unwrap();
            let sampled = score(&teacher, &pairs, temperature, Wanted::Sampled).unwrap();
            assert_eq!(scores.logprobs, sampled.logprobs);
            let top = scores.top.unwrap();
            assert_eq!((top.k, top.ids.len(), top.logprobs.len()), (k, 34 * k, 34 * k));
            let expected = distributions(&teacher, &pairs, temperature.into());
            let positions = top.ids.chunks(k).zip(top.logprobs.chunks(k));
            for ((ids, logprobs), row) in positions.zip(expected) {
                assert!(logprobs.is_sorted_by(|a, b| a >= b));
                let mut distinct = ids.to_vec();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), k);
                let got: Vec<f64> = logprobs.iter().map(|&x| x.into()).collect();
                let named: Vec<f64> = ids.iter().map(|&id| row[id as usize]).collect();
                assert_close(&got, &named, 2e-5);
                // Nothing outside is likelier than the last one inside.
                let outside = (0..320u32).filter(|id| !ids.contains(id));
                let best = outside.map(|id| row[id as usize]).fold(f64::MIN, f64::max);
                assert!(best <= got[k - 1] + 2e-5, "{best} {}", got[k - 1]);
            }
        }
    }
}

#[test]
fn named_ids_get_their_exact_log_probs_in_the_callers_order() {
    let pairs = pairs();
    let k = 3;
    let ids: Vec<u32> = (0..34 * k as u32).map(|i| i * 7919 % 320).collect();
    let wanted = Wanted::Ids { k, ids: &ids };
    for temperature in [1.0f32, 0.8] {
        let teacher = teacher("qwen3_tied");
        let scores = score(&teacher, &pairs, temperature, wanted).unwrap();
        let top = scores.top.unwrap();
        assert_eq!((top.k, &top.ids), (k, &ids));
        let rows = distributions(&teacher, &pairs, temperature.into());
        let expected: Vec<f64> = ids
            .chunks(k)
            .zip(rows)
            .flat_map(|(ids, row)| ids.iter().map(move |&id| row[id as usize]).collect::<Vec<_>>())
            .collect();
        let got: Vec<f64> = top.logprobs.iter().map(|&x| x.into()).collect();
        assert_close(&got, &expected, 2e-5);
        // Named or sampled, an id has one log-prob, bit for bit.
        let sampled: Vec<u32> = pairs.iter().flat_map(|(_, response)| response.clone()).collect();
        let own = score(&teacher, &pairs, temperature, Wanted::Ids { k: 1, ids: &sampled });
        let own = own.unwrap();
        let named: Vec<Option<f32>> = own.top.unwrap().logprobs.into_iter().map(Some).collect();
        assert_eq!(own.logprobs.values(), named);
        assert_eq!(own.logprobs, scores.logprobs);
    }
}

#[test]
fn candidates_do_not_depend_on_the_token_budget() {
    let pairs = pairs();
    let ids: Vec<u32> = (0..68).map(|i| i * 31 % 320).collect();
    for wanted in [Wanted::TopK(5), Wanted::TopK(0), Wanted::Ids { k: 2, ids: &ids }] {
        let want = score(&teacher("llama_tied"), &pairs, 0.7, wanted).unwrap();
        for budget in [1, 20, 31] {
            let teacher = teacher("llama_tied").with_token_budget(budget);
            assert_eq!(score(&teacher, &pairs, 0.7, wanted).unwrap(), want);
        }
    }
}

#[test]
fn what_it_cannot_score_is_said_with_its_name() {
    let teacher = teacher("llama_tied");
    let name = GoldenModel::load("llama_tied").dir.display().to_string();
    assert_eq!(teacher.name(), name);
    let failed = |pairs: &[(Vec<u32>, Vec<u32>)], temperature| {
        let error = score(&teacher, pairs, temperature, Wanted::Sampled).unwrap_err();
        assert_eq!(error.to_string(), format!("teacher `{name}` failed"));
        std::error::Error::source(&error).unwrap().to_string()
    };
    assert_eq!(
        failed(&[(vec![1], vec![320])], 1.0),
        "token id 320 at token 1 of sequence 0 is outside the vocabulary of 320"
    );
    let cold = failed(&[(vec![1], vec![2])], 0.0);
    assert!(cold.contains("temperature must be"), "{cold}");
    let cause = |wanted| {
        let error = score(&teacher, &pairs(), 1.0, wanted).unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    };
    assert_eq!(
        cause(Wanted::TopK(321)),
        "the 321 likeliest ids per position: the vocabulary holds 320; ask for at most 320"
    );
    assert_eq!(
        cause(Wanted::Ids { k: 2, ids: &[1; 67] }),
        "named ids: expected 68, 2 for each of 34 response tokens, got 67"
    );
    let mut ids = vec![1; 68];
    ids[2 * (5 + 9 + 1 + 12 + 3) + 1] = 320;
    assert_eq!(
        cause(Wanted::Ids { k: 2, ids: &ids }),
        "named id 320 (number 1) at token 3 of response 5 is outside the vocabulary of 320"
    );
    // The sequence keeps its number, whichever forward it came to.
    let cut = teacher.with_token_budget(8);
    let pairs: Vec<_> = vec![(vec![1], vec![2; 7]), (vec![1], vec![2; 7]), (vec![], vec![2])];
    let error = score(&cut, &pairs, 1.0, Wanted::Sampled).unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "prompt of sequence 2 is empty; a model needs at least one token"
    );
}

#[test]
fn a_student_must_share_tokenizer_vocabulary_and_context() {
    let golden = GoldenModel::load("qwen3_tied");
    let (student_dir, teacher_dir) = (ModelDir::copy(&golden.dir), ModelDir::copy(&golden.dir));
    let check = |longest| {
        let teacher = InProcessTeacher::new(load(teacher_dir.path()));
        teacher.check_student(&load(student_dir.path()), longest)
    };
    let shown = teacher_dir.path().display().to_string();
    check(512).unwrap();
    assert_eq!(
        check(513).unwrap_err().to_string(),
        format!(
            "teacher {shown}: a context of 512 tokens, sequences may have 513; shorten the responses or take another teacher"
        )
    );
    let file = |dir: &ModelDir| dir.path().join("tokenizer.json").display().to_string();
    teacher_dir.write_tokenizer(&["?", "a", "b"]);
    assert_eq!(
        check(10).unwrap_err().to_string(),
        format!(
            "{}: there is no such file; copy it from the model's repository",
            file(&student_dir)
        )
    );
    student_dir.write_tokenizer(&["?", "a", "b"]);
    check(10).unwrap();
    student_dir.write_tokenizer(&["?", "b", "a"]);
    let error = check(10).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("teacher {shown}: token ids do not agree with the student's")
    );
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        format!(
            "{}: another tokenizer than {}: token \"a\" has id 2 there and id 1 here; teacher and student must share one tokenizer",
            file(&teacher_dir),
            file(&student_dir)
        )
    );
}

/// A teacher of `teacher` rows against a student of `student` rows, with tokenizers or without.
fn vocabularies(teacher: usize, student: usize, tokenizers: bool) -> Result<(), String> {
    let model = |rows: usize| {
        let dir = ModelDir::copy(&GoldenModel::load("qwen2_tied").dir);
        dir.edit_config(|config| drop(config.insert("vocab_size".into(), rows.into())));
        if tokenizers {
            dir.write_tokenizer(&["?", "a", "b"]);
        }
        let model = CausalLm::random(dir.path(), 0, DType::F32, &Device::Cpu).unwrap();
        (dir, model)
    };
    let ((teacher_dir, teacher), (_student_dir, student)) = (model(teacher), model(student));
    let checked = InProcessTeacher::new(teacher).check_student(&student, 10);
    checked.map_err(|e| e.to_string().replace(&teacher_dir.path().display().to_string(), "DIR"))
}

#[test]
fn padding_rows_matter_only_where_there_is_no_tokenizer() {
    let message = |teacher, student| {
        Err(format!(
            "teacher DIR: vocabulary of {teacher}, the student samples from {student}; teacher and student must share one vocabulary"
        ))
    };
    assert_eq!(vocabularies(384, 320, true), Ok(()));
    assert_eq!(vocabularies(320, 320, false), Ok(()));
    assert_eq!(vocabularies(384, 320, false), message(384, 320));
    assert_eq!(vocabularies(320, 384, true), message(320, 384));
}
