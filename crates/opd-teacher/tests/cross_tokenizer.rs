//! A teacher with another tokenizer: what it is asked, and how its scores come back.
#![allow(clippy::unwrap_used)]

use std::{fs, sync::Arc, sync::Mutex};

use opd_batch::{
    Ragged, ScoreRequest, ScoredSequence, Source,
    SpanToken::{self, End, Inside, Unaligned},
    Teacher, TeacherScores, Wanted,
};
use opd_teacher::{
    CrossTokenizerTeacher, EnsembleTeacher, Journal, JournaledTeacher, RoutedTeacher, Vocabulary,
};
use opd_testkit::{write_byte_fallback, write_byte_level};

/// Scores that depend on all ids up to the token.
#[derive(Default)]
struct Counting {
    asked: Mutex<Vec<(Vec<u32>, Vec<u32>)>>,
}

fn value(ids: &[u32]) -> f32 {
    let hash = ids.iter().fold(7u32, |hash, id| hash.wrapping_mul(31).wrapping_add(*id));
    -((hash % 97) as f32) / 16.0
}

fn values(prompt: &[u32], response: &[u32]) -> Vec<f32> {
    let all = [prompt, response].concat();
    (0..response.len()).map(|i| value(&all[..=prompt.len() + i])).collect()
}

impl Teacher for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        let rows = request.sequences.iter().map(|sequence| {
            let ScoredSequence { prompt, response } = *sequence;
            self.asked.lock().unwrap().push((prompt.to_vec(), response.to_vec()));
            values(prompt, response)
        });
        TeacherScores::complete(Ragged::from_rows(rows))
    }
}

fn vocabulary(write: impl FnOnce(&std::path::Path)) -> Vocabulary {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    Vocabulary::load(dir.path()).unwrap()
}

/// Bytes, each a token.
fn bytes() -> Vocabulary {
    vocabulary(|dir| write_byte_level(dir, &[]))
}

fn words() -> Vocabulary {
    vocabulary(|dir| write_byte_fallback(dir, &["▁the", "▁", "the", "he", "t", "h", "e", "a"]))
}

fn ids(vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
    vocabulary.tokenizer.encode_continuation(text).unwrap()
}

fn score(
    teacher: &dyn Teacher,
    pairs: &[(Vec<u32>, Vec<u32>)],
) -> opd_batch::Result<TeacherScores> {
    let sequences = pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response });
    teacher.score(&ScoreRequest {
        sequences: sequences.collect(),
        temperature: 1.0,
        wanted: Wanted::Sampled,
        sources: &[],
    })
}

fn places(scores: &TeacherScores) -> &[SpanToken] {
    scores.spans.as_ref().unwrap().values()
}

#[test]
fn spans_have_the_sum_of_the_teachers_tokens() {
    let counting = Arc::new(Counting::default());
    let teacher = CrossTokenizerTeacher::new(counting.clone(), words(), bytes());
    let (prompt, response) = (ids(&bytes(), "a"), [ids(&bytes(), " the a"), vec![0]].concat());
    let scores = score(&teacher, &[(prompt, response)]).unwrap();
    let (prompt, response) = counting.asked.lock().unwrap()[0].clone();
    let tokens = |ids: &[u32]| -> Vec<String> {
        ids.iter().map(|&id| words().tokenizer.token(id).unwrap()).collect()
    };
    assert_eq!(tokens(&prompt), ["▁", "a"]);
    assert_eq!(tokens(&response), ["▁the", "▁", "a", "<eos>"]);
    let expected = values(&prompt, &response);
    assert_eq!(places(&scores), [Inside, Inside, Inside, End, End, End, End]);
    let got: Vec<f32> = scores.logprobs.values().iter().map(|score| score.unwrap()).collect();
    assert_eq!(got, [[expected[0]; 4].as_slice(), &expected[1..]].concat());
}

#[test]
fn one_tokenizer_on_both_sides_changes_nothing() {
    let teacher = CrossTokenizerTeacher::new(Counting::default(), words(), words());
    let texts = [" the the", "the", " a"];
    let pairs: Vec<_> = texts
        .iter()
        .map(|text| {
            let mut all = words().tokenizer.encode(&format!("a{text}")).unwrap();
            let response = all.split_off(2);
            (all, response)
        })
        .collect();
    let scores = score(&teacher, &pairs).unwrap();
    assert!(places(&scores).iter().all(|place| *place == End));
    assert_eq!(scores.logprobs, score(&Counting::default(), &pairs).unwrap().logprobs);
}

#[test]
fn what_is_no_text_is_not_scored() {
    let counting = Arc::new(Counting::default());
    let teacher = CrossTokenizerTeacher::new(counting.clone(), words(), bytes());
    let smiley = ids(&bytes(), "🙂");
    let pair = |response: Vec<u32>| (ids(&bytes(), "a"), response);
    let half = [&ids(&bytes(), "he")[..], &smiley[..2], &[0]].concat();
    let special = [&ids(&bytes(), "h")[..], &[0], &ids(&bytes(), "e")].concat();
    let scores = score(&teacher, &[pair(smiley[..3].to_vec()), pair(half), pair(special)]).unwrap();
    let rows: Vec<&[SpanToken]> = scores.spans.as_ref().unwrap().iter().collect();
    assert_eq!(rows[0], [Unaligned; 3]);
    assert_eq!(rows[1], [Inside, End, Unaligned, Unaligned, Unaligned]);
    assert_eq!(rows[2], [End, Unaligned, Unaligned]);
    assert_eq!(scores.n_unaligned(), 8);
    assert_eq!(scores.n_missing(), 0);
    assert_eq!(counting.asked.lock().unwrap().len(), 2, "nothing of the first could be asked");
}

#[test]
fn routes_keep_spans_beside_tokens() {
    let cross = Arc::new(CrossTokenizerTeacher::new(Counting::default(), words(), bytes()));
    let tags = |tag: &str| vec![Source::new(tag)];
    let plain: Arc<dyn Teacher> = Arc::new(Counting::default());
    let routed = RoutedTeacher::new(vec![(cross, tags("text")), (plain, tags("ids"))]).unwrap();
    let (prompt, response) = (ids(&bytes(), "a"), ids(&bytes(), " the"));
    let sequence = ScoredSequence { prompt: &prompt, response: &response };
    let request = ScoreRequest {
        sequences: vec![sequence; 3],
        temperature: 1.0,
        wanted: Wanted::Sampled,
        sources: &["ids", "text", "ids"].map(Source::new),
    };
    let scores = routed.score(&request).unwrap();
    let rows: Vec<&[SpanToken]> = scores.spans.as_ref().unwrap().iter().collect();
    assert_eq!(rows, [&[End; 4][..], &[Inside, Inside, Inside, End], &[End; 4]]);
}

#[test]
fn a_journal_keeps_the_teachers_own_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path().join("journal"), 1 << 20).unwrap());
    let pairs = [(ids(&bytes(), "a"), ids(&bytes(), " the"))];
    let counting = Arc::new(Counting::default());
    let inside = JournaledTeacher::new(counting.clone(), journal.clone());
    let inside = CrossTokenizerTeacher::new(inside, words(), bytes());
    assert_eq!(score(&inside, &pairs).unwrap(), score(&inside, &pairs).unwrap());
    assert_eq!(counting.asked.lock().unwrap().len(), 1, "the second time from the journal");
    let cross = CrossTokenizerTeacher::new(Counting::default(), words(), bytes());
    let message = score(&JournaledTeacher::new(cross, journal), &pairs).unwrap_err().to_string();
    let expected = "teacher `counting` cannot give scores of spans for a journal; keep those of \
                    the teacher's own tokens: journal the teacher inside CrossTokenizerTeacher";
    assert_eq!(message, expected);
}

#[test]
fn members_of_an_ensemble_must_cut_alike() {
    let member = |theirs: Vocabulary| -> Arc<dyn Teacher> {
        Arc::new(CrossTokenizerTeacher::new(Counting::default(), theirs, bytes()))
    };
    let pairs = [(ids(&bytes(), "a"), ids(&bytes(), " the"))];
    let alike = EnsembleTeacher::new(vec![(1.0, member(words())), (1.0, member(words()))]).unwrap();
    assert_eq!(places(&score(&alike, &pairs).unwrap()), [Inside, Inside, Inside, End]);
    let unlike =
        EnsembleTeacher::new(vec![(1.0, member(words())), (1.0, member(bytes()))]).unwrap();
    let error = score(&unlike, &pairs).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "its members cut texts into different spans; give all one tokenizer");
}

#[test]
fn ids_of_its_own_cannot_be_had() {
    let teacher = CrossTokenizerTeacher::new(Counting::default(), words(), bytes());
    let (prompt, response) = (ids(&bytes(), "a"), ids(&bytes(), "e"));
    let sequence = ScoredSequence { prompt: &prompt, response: &response };
    let message = teacher
        .score(&ScoreRequest {
            sequences: vec![sequence],
            temperature: 1.0,
            wanted: Wanted::TopK(3),
            sources: &[],
        })
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("teacher `counting` cannot give the 3 likeliest ids"), "{message}");
}

#[test]
fn a_vocabulary_says_how_responses_end() {
    let dir = tempfile::tempdir().unwrap();
    write_byte_level(dir.path(), &[]);
    let generation = dir.path().join("generation_config.json");
    let end = || Vocabulary::load(dir.path()).map(|vocabulary| vocabulary.end);
    for (said, expected) in [("0", vec![0]), ("[7, 0]", vec![7, 0])] {
        fs::write(&generation, format!("{{\"eos_token_id\": {said}}}")).unwrap();
        assert_eq!(end().unwrap(), expected);
    }
    fs::write(&generation, "{}").unwrap();
    assert!(end().unwrap_err().to_string().contains("has an `eos_token_id`"));
    fs::write(dir.path().join("config.json"), "{\"eos_token_id\": 5}").unwrap();
    assert_eq!(end().unwrap(), [5]);
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(end().unwrap_err().to_string().contains("tokenizer.json"));
}
