//! Teachers behind HTTP: recorded exchanges of real servers, faults, outages, journals.
#![allow(clippy::unwrap_used, missing_docs)]

mod described;
mod faults;
mod identity;
mod journal;
mod journal_killed;
mod journal_outage;
mod oracle;
mod outage;
mod recorded;
mod recorded_requests;
mod requests;
mod several;

use std::time::Duration;

use opd_batch::{ScoreRequest, ScoredSequence, TeacherScores, Wanted};
use opd_http::{CircuitRules, Retry, Settings};
use opd_teacher::RemoteSettings;

/// Prompt and response.
type Pair = (Vec<u32>, Vec<u32>);

/// Delays of milliseconds.
fn quick() -> RemoteSettings {
    RemoteSettings {
        http: Settings {
            timeout: Duration::from_millis(300),
            retry: Retry {
                attempts: 14,
                first: Duration::from_millis(1),
                longest: Duration::from_millis(10),
                patience: Duration::from_secs(60),
            },
            circuit: CircuitRules {
                failures: 12,
                pause: Duration::from_millis(5),
                longest: Duration::from_millis(50),
            },
            ..Settings::default()
        },
        vocab_size: Some(1024),
        ..RemoteSettings::default()
    }
}

fn request<'a>(pairs: &'a [Pair], temperature: f32, wanted: Wanted<'a>) -> ScoreRequest<'a> {
    let sequences = pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response });
    ScoreRequest { sequences: sequences.collect(), temperature, wanted, sources: &[] }
}

fn bits(scores: &TeacherScores) -> Vec<Option<u32>> {
    scores.logprobs.values().iter().map(|value| value.map(f32::to_bits)).collect()
}

/// `groups` prompts with 8 responses each, of odd lengths, some of them empty or equal.
fn groups(groups: u32) -> Vec<Pair> {
    let pair = |i: u32| {
        let group = i / 8;
        let prompt = (0..3 + group % 9).map(|t| (group * 31 + t * 7) % 1000).collect();
        let length = if i % 97 == 5 { 0 } else { 1 + (i * 5) % 23 };
        let twin = if i % 8 == 7 { i - 1 } else { i };
        (prompt, (0..length).map(|t| (twin * 131 + t * 17) % 1000).collect())
    };
    (0..groups * 8).map(pair).collect()
}
