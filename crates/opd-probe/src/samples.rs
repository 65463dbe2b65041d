use opd_batch::{ScoreRequest, ScoredSequence, Teacher, Wanted};
use opd_models::CausalLm;
use opd_rollout::{InProcess, Request, RolloutEngine, Sampling};

use crate::{Error, Result};

/// What a student writes, with the log-probs of its own distribution.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) sequences: Vec<Sample>,
    pub(crate) temperature: f32,
}

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) prompt: Vec<u32>,
    pub(crate) response: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
}

/// Samples to score.
const COUNT: usize = 16;

/// Tokens of a sample.
const LENGTH: usize = 32;

impl Samples {
    /// Samples behind prompts of two ids.
    pub(crate) fn write(student: &CausalLm, temperature: f32, longest: usize) -> Result<Self> {
        let vocab = student.config().vocab_size as u32;
        // Spread over the vocabulary, the same ones every time.
        let id = |i: usize| (i as u32).wrapping_mul(2_654_435_761) % vocab;
        let requests: Vec<Request> = (0..COUNT)
            .map(|i| Request { prompt: vec![id(2 * i + 1), id(2 * i + 2)], stream: i as u64 })
            .collect();
        let length = LENGTH.min(longest.saturating_sub(2)).max(2);
        let sampling = Sampling::at_temperature(temperature.into(), length, &[]);
        let written = InProcess::new(student, COUNT).generate(&requests, &sampling);
        let written = written.map_err(Error::Samples)?;
        let sequences = requests.into_iter().zip(written).map(|(request, generation)| Sample {
            prompt: request.prompt,
            response: generation.tokens,
            logprobs: generation.logprobs,
        });
        Ok(Self { sequences: sequences.collect(), temperature })
    }
}

/// Scores of pairs of prompt and response; `None` where there is none.
pub(crate) fn score(
    teacher: &dyn Teacher,
    pairs: &[(&[u32], &[u32])],
    temperature: f32,
    wanted: Wanted<'_>,
) -> std::result::Result<opd_batch::TeacherScores, String> {
    let sequences = pairs.iter().map(|&(prompt, response)| ScoredSequence { prompt, response });
    let request =
        ScoreRequest { sequences: sequences.collect(), temperature, wanted, sources: &[] };
    teacher.score(&request).map_err(|error| chain(&error))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
