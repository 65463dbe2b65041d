//! What `RolloutBatch`, `Groups` and `ScoredBatch` keep of what they were given.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Arc};

use opd_batch::{
    Author, Error, Finish, Groups, Ragged, Result, Rollout, RolloutBatch, ScoreRequest,
    ScoredBatch, Source, SpanToken, Teacher, TeacherScores, Wanted,
};
use proptest::{collection::vec, prelude::*};

/// Groups that are not contiguous, a mask and a truncated stream in one rollout each.
fn rollouts() -> Vec<Rollout> {
    vec![
        Rollout {
            prompt: vec![1, 2],
            response: vec![3],
            sampler_logprobs: vec![-0.5],
            reward: 1.0,
            group: 7,
            ..Rollout::default()
        },
        Rollout {
            prompt: vec![4],
            response: vec![5, 6, 0],
            sampler_logprobs: vec![-1.0, -2.0, -3.0],
            loss_mask: Some(vec![true, false, true]),
            reward: -2.0,
            group: 4,
            source: Source::new("maths"),
            finish: Finish::Length,
            ..Rollout::default()
        },
        Rollout {
            prompt: vec![1, 2],
            response: vec![8, 0],
            sampler_logprobs: vec![-0.25, -0.75],
            truncated_logprobs: Some(vec![-0.125, -0.5]),
            group: 7,
            ..Rollout::default()
        },
    ]
}

fn batch() -> RolloutBatch {
    RolloutBatch::from_rollouts(rollouts()).unwrap()
}

#[test]
fn a_batch_keeps_every_stream_in_order() {
    let batch = batch();
    assert_eq!(batch.n_rows(), 3);
    assert_eq!(batch.rows(), batch.responses().rows());
    assert_eq!(batch.prompts(), &Ragged::from_rows([vec![1, 2], vec![4], vec![1, 2]]));
    assert_eq!(batch.responses(), &Ragged::from_rows([vec![3], vec![5, 6, 0], vec![8, 0]]));
    let sampler = Ragged::from_rows([vec![-0.5], vec![-1.0, -2.0, -3.0], vec![-0.25, -0.75]]);
    assert_eq!(batch.sampler_logprobs(), &sampler);
    assert_eq!(batch.rewards(), [1.0, -2.0, 0.0]);
    assert_eq!(batch.finishes(), [Finish::Eos, Finish::Length, Finish::Eos]);
    let sources: Vec<_> = batch.sources().iter().map(Source::to_string).collect();
    assert_eq!(sources, ["default", "maths", "default"]);
}

#[test]
fn the_teacher_sees_the_students_prompt_unless_it_is_told_more() {
    assert_eq!(batch().teacher_prompts(), batch().prompts());
    let mut rollouts = rollouts();
    rollouts[1].teacher_prompt = Some(vec![9, 9, 4]);
    rollouts[1].author = Author::Teacher;
    let batch = RolloutBatch::from_rollouts(rollouts.clone()).unwrap();
    let told = [vec![1, 2], vec![9, 9, 4], vec![1, 2]];
    assert_eq!(batch.teacher_prompts(), &Ragged::from_rows(told.clone()));
    assert_eq!(batch.prompts(), &Ragged::from_rows([vec![1, 2], vec![4], vec![1, 2]]));
    assert_eq!(batch.authors(), [Author::Student, Author::Teacher, Author::Student]);
    let request = ScoreRequest::for_batch(&batch, 1.0);
    for ((sequence, told), response) in
        request.sequences.iter().zip(&told).zip(batch.responses().iter())
    {
        assert_eq!((sequence.prompt, sequence.response), (told.as_slice(), response));
    }
    assert_eq!(&request.rows(), batch.rows(), "what aligns them is the response");
    rollouts[2].teacher_prompt = Some(Vec::new());
    let error = RolloutBatch::from_rollouts(rollouts).unwrap_err();
    assert!(matches!(error, Error::EmptySequence { what: "teacher_prompt", row: 2 }), "{error}");
}

#[test]
fn no_mask_means_all_tokens() {
    let expected = Ragged::from_rows([vec![true], vec![true, false, true], vec![true, true]]);
    assert_eq!(batch().loss_mask(), &expected);
}

#[test]
fn rows_that_were_not_truncated_keep_their_full_logprobs() {
    let expected = Ragged::from_rows([vec![-0.5], vec![-1.0, -2.0, -3.0], vec![-0.125, -0.5]]);
    assert_eq!(batch().truncated_logprobs(), Some(&expected));
    let first_two = RolloutBatch::from_rollouts(rollouts()[..2].to_vec()).unwrap();
    assert_eq!(first_two.truncated_logprobs(), None);
}

#[test]
fn groups_need_not_be_contiguous() {
    let batch = batch();
    assert_eq!(batch.groups().iter().collect::<Vec<_>>(), [&[0, 2][..], &[1][..]]);
    assert_eq!(batch.groups().group_of(), [0, 1, 0]);
    assert_eq!((batch.groups().len(), batch.groups().smallest()), (2, 1));
    assert!(!batch.groups().is_empty());
    let none = Groups::from_ids(&[]);
    assert_eq!((none.is_empty(), none.len(), none.smallest()), (true, 0, 0));
}

proptest! {
    #[test]
    fn groups_partition_the_rows(ids in vec(0..5u32, 1..20)) {
        let groups = Groups::from_ids(&ids);
        let mut seen = vec![0; ids.len()];
        for (index, members) in groups.iter().enumerate() {
            for &row in members {
                prop_assert_eq!(ids[row], ids[members[0]]);
                prop_assert_eq!(groups.group_of()[row], index);
                seen[row] += 1;
            }
        }
        prop_assert!(seen.iter().all(|&times| times == 1));
        let firsts: Vec<_> = groups.iter().map(|members| members[0]).collect();
        prop_assert!(firsts.is_sorted());
        let mut sizes = HashMap::new();
        for id in &ids {
            *sizes.entry(id).or_insert(0) += 1;
        }
        prop_assert_eq!(groups.len(), sizes.len());
        prop_assert_eq!(Some(groups.smallest()), sizes.into_values().min());
    }
}

#[test]
fn old_logprobs_are_the_samplers_only_if_asked() {
    let batch = batch();
    assert_eq!(ScoredBatch::from_sampler(&batch).old_logprobs(), batch.sampler_logprobs());
    let old = Ragged::filled(batch.rows().clone(), -4.0);
    let scored = ScoredBatch::new(&batch, old.clone()).unwrap();
    assert_eq!(scored.old_logprobs(), &old);
    assert_eq!(scored.rollouts(), &batch);
    assert_eq!(scored.mask(), batch.loss_mask());
    assert!(scored.teacher().is_none());
}

#[test]
fn missing_scores_leave_the_mask() {
    let batch = batch();
    let logprobs = Ragged::from_rows([
        vec![None],
        vec![Some(-1.0), Some(-1.0), None],
        vec![Some(-2.0), Some(-3.0)],
    ]);
    let scores = TeacherScores { logprobs: logprobs.clone(), top: None, spans: None };
    assert_eq!(scores.n_missing(), 2);
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(scores).unwrap();
    let expected = Ragged::from_rows([vec![false], vec![true, false, false], vec![true, true]]);
    assert_eq!(scored.mask(), &expected);
    assert_eq!(scored.teacher_logprobs("test").unwrap(), &logprobs);

    let complete = TeacherScores::complete(batch.sampler_logprobs().clone()).unwrap();
    assert_eq!(complete.n_missing(), 0);
    let rescored = scored.with_teacher(complete.clone()).unwrap();
    assert_eq!(rescored.mask(), batch.loss_mask());
    assert_eq!(rescored.teacher(), Some(&complete));
}

#[test]
fn optional_streams_come_back() {
    let batch = batch();
    let reference = Ragged::filled(batch.rows().clone(), -1.5);
    let values = Ragged::filled(batch.rows().clone(), 12.0);
    let scored = ScoredBatch::from_sampler(&batch).with_reference(reference.clone()).unwrap();
    let scored = scored.with_values(values.clone()).unwrap();
    assert_eq!(scored.reference_logprobs("test").unwrap(), &reference);
    assert_eq!(scored.values("test").unwrap(), &values);
}

/// Gives every token the same log-prob.
struct Indifferent(f32);

impl Teacher for Indifferent {
    fn name(&self) -> &str {
        "indifferent"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        TeacherScores::complete(Ragged::filled(request.rows(), self.0))
    }
}

#[test]
fn teachers_work_behind_pointers() {
    let batch = batch();
    let request = ScoreRequest::for_batch(&batch, 0.5);
    assert_eq!((request.temperature, request.wanted), (0.5, Wanted::Sampled));
    assert_eq!(&request.rows(), batch.rows());
    assert_eq!(request.sequences[1].prompt, [4]);
    assert_eq!(request.sequences[1].response, [5, 6, 0]);

    let expected = Indifferent(-3.0).score(&request).unwrap();
    let shared: Arc<dyn Teacher> = Arc::new(Indifferent(-3.0));
    let boxed: Box<dyn Teacher> = Box::new(&shared);
    assert_eq!(boxed.name(), "indifferent");
    assert_eq!(boxed.score(&request).unwrap(), expected);
    assert_eq!(expected.logprobs, Ragged::filled(batch.rows().clone(), Some(-3.0)));
}

#[test]
fn logprobs_are_summed_over_what_the_teacher_scored_as_one() {
    use SpanToken::{End, Inside, Unaligned};
    let rollout = |n: usize| Rollout {
        prompt: vec![1],
        response: vec![2; n],
        sampler_logprobs: vec![-1.0; n],
        ..Rollout::default()
    };
    let batch = RolloutBatch::from_rollouts(vec![rollout(4), rollout(2)]).unwrap();
    let old = Ragged::from_rows([vec![-0.5, -0.25, -1.0, -2.0], vec![-4.0, -8.0]]);
    let tokens = ScoredBatch::new(&batch, old.clone()).unwrap();
    assert_eq!(tokens.per_span(&old).unwrap(), [-0.5, -0.25, -1.0, -2.0, -4.0, -8.0]);
    let scores = TeacherScores {
        logprobs: Ragged::from_rows([
            vec![Some(-3.0), Some(-3.0), Some(-0.5), None],
            vec![Some(-1.0), Some(-1.0)],
        ]),
        top: None,
        spans: Some(Ragged::from_rows([vec![Inside, End, End, Unaligned], vec![Inside, End]])),
    };
    assert_eq!((scores.n_missing(), scores.n_unaligned()), (0, 1));
    let spans = tokens.with_teacher(scores).unwrap();
    assert_eq!(spans.per_span(&old).unwrap(), [-0.75, -0.75, -1.0, -2.0, -12.0, -12.0]);
    let ends: Vec<bool> = (0..6).map(|token| spans.ends_span(token)).collect();
    assert_eq!(ends, [false, true, true, true, false, true]);
    assert_eq!(spans.mask().values(), [true, true, true, false, true, true]);
}
