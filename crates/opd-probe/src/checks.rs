use std::time::Instant;

use opd_batch::Wanted;
use opd_models::{CausalLm, Tokenizer};

use crate::{
    Outcome::{self, Fail, NotChecked, Pass, Warn},
    Report, Result, Subject,
    samples::{Samples, chain, score},
    tokenizer,
};

/// What a run will ask of the teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needs {
    /// Temperature of the samples.
    pub temperature: f32,
    /// Longest sequence, if it is known.
    pub longest: Option<usize>,
    /// Likeliest ids per token, if any are needed.
    pub top_k: Option<usize>,
}

impl Default for Needs {
    fn default() -> Self {
        Self { temperature: 1.0, longest: None, top_k: None }
    }
}

type Seen = (Outcome, String);

/// Differences of log-probs (nats) that another batch or dtype may make.
const NOISE: f32 = 0.1;

/// Most tokens that the check of the longest sequence sends.
const LONGEST_SENT: usize = 4096;

/// Asks a teacher all that a run relies on.
///
/// # Errors
///
/// If the student cannot write samples; whatever is wrong with the teacher is in the report.
pub fn probe(subject: &Subject, student: &CausalLm, needs: Needs) -> Result<Report> {
    let mut report = Report::new(format!("{} ({})", subject.place, subject.kind()));
    let probe = Probe { subject, needs };
    report.add("health", probe.health());
    report.add("identity", probe.identity());
    let longest = subject.limits().longest.unwrap_or(usize::MAX).min(student.config().context);
    let samples = Samples::write(student, 1.0, longest)?;
    report.add("tokenizer", tokenizer::check(subject, student));
    let (scoring, scored) = probe.scoring(&samples);
    report.add("scoring", scoring);
    if !scored {
        return Ok(report);
    }
    report.add("off by one", probe.off_by_one(&samples));
    report.add("bos", probe.bos(student));
    report.add("temperature", probe.temperature(&samples));
    report.add("top-k", probe.top_k(&samples));
    report.add("length", probe.length(&samples));
    report.add("speed", probe.speed(&samples));
    report.add("divergence", probe.divergence(&samples, student));
    Ok(report)
}

struct Probe<'a> {
    subject: &'a Subject,
    needs: Needs,
}

impl Probe<'_> {
    fn score(
        &self,
        pairs: &[(&[u32], &[u32])],
        temperature: f32,
        wanted: Wanted<'_>,
    ) -> std::result::Result<opd_batch::TeacherScores, String> {
        score(self.subject.teacher(), pairs, temperature, wanted)
    }

    /// Log-probs of one response at temperature 1.
    fn logprobs(&self, prompt: &[u32], response: &[u32]) -> std::result::Result<Vec<f32>, String> {
        let scores = self.score(&[(prompt, response)], 1.0, Wanted::Sampled)?;
        let values = scores.logprobs.values().iter().copied().collect::<Option<Vec<f32>>>();
        values.ok_or_else(|| "a score is missing".to_owned())
    }

    fn health(&self) -> Seen {
        let Some(client) = &self.subject.client else { return (Pass, "loaded".into()) };
        match client.run(client.send_once(0, &opd_http::Request::get("/health"))) {
            Ok(_) => (Pass, "/health answers 200".into()),
            Err(error) => (Fail, chain(&error)),
        }
    }

    fn identity(&self) -> Seen {
        match self.subject.teacher().identity() {
            Ok(identity) => (Pass, identity),
            Err(error) => (Fail, chain(&error)),
        }
    }

    /// The client refuses answers of the wrong count, echo, order or with values that are no
    /// log-probs; what is left is whether any is missing.
    fn scoring(&self, samples: &Samples) -> (Seen, bool) {
        let pairs: Vec<(&[u32], &[u32])> =
            samples.sequences.iter().map(|s| (&s.prompt[..], &s.response[..])).collect();
        match self.score(&pairs, 1.0, Wanted::Sampled) {
            Err(error) => ((Fail, error), false),
            Ok(scores) if scores.n_missing() > 0 => {
                ((Fail, format!("{} tokens have no score", scores.n_missing())), false)
            }
            Ok(scores) => {
                let n = scores.logprobs.values().len();
                let said =
                    format!("{n} tokens of {} sequences: one finite score each", pairs.len());
                ((Pass, said), true)
            }
        }
    }

    /// A token has one log-prob, wherever the response is said to start; it depends on the token
    /// before it, and not on the one after.
    fn off_by_one(&self, samples: &Samples) -> Seen {
        let look = || -> std::result::Result<Seen, String> {
            let mut largest = 0.0f32;
            for sample in samples.sequences.iter().take(4) {
                let all = self.logprobs(&sample.prompt, &sample.response)?;
                let cut = sample.response.len() / 2;
                let prompt = [&sample.prompt, &sample.response[..cut]].concat();
                let late = self.logprobs(&prompt, &sample.response[cut..])?;
                let early = self.logprobs(&sample.prompt, &sample.response[..cut])?;
                for (a, b) in all.iter().zip(early.iter().chain(&late)) {
                    largest = largest.max((a - b).abs());
                }
            }
            if largest > NOISE {
                return Ok((
                    Fail,
                    format!(
                        "a token's log-prob changes by {largest:.3} nats with the place where the response starts"
                    ),
                ));
            }
            let [one, other] = [&samples.sequences[0], &samples.sequences[1]];
            let (a, b, y) = (one.prompt[0], other.prompt[0], one.response[0]);
            let behind = |last| self.logprobs(&[&one.prompt[..], &[last]].concat(), &[y]);
            if behind(a)? == behind(b)? {
                return Ok((
                    Fail,
                    "a token's log-prob does not depend on the token before it".into(),
                ));
            }
            let before = |next| self.logprobs(&one.prompt, &[y, next]);
            let change = (before(a)?[0] - before(b)?[0]).abs();
            if change > NOISE {
                return Ok((
                    Fail,
                    format!(
                        "a token's log-prob changes by {change:.3} nats with the token after it"
                    ),
                ));
            }
            Ok((
                Pass,
                format!(
                    "scores move by at most {largest:.1e} nats when the response starts elsewhere"
                ),
            ))
        };
        look().unwrap_or_else(|error| (Fail, error))
    }

    /// A server that puts a token in front scores with and without it alike.
    fn bos(&self, student: &CausalLm) -> Seen {
        let added = Tokenizer::load(student.source()).ok().and_then(|tokenizer| {
            let (with, without) =
                (tokenizer.encode("a").ok()?, tokenizer.encode_continuation("a").ok()?);
            with.strip_suffix(&without[..]).map(<[u32]>::to_vec)
        });
        let Some(&[bos]) = added.as_deref() else {
            return (Pass, "the student's tokenizer puts no token in front of texts".into());
        };
        let vocab = student.config().vocab_size as u32;
        let (x, y) = (vocab / 3, vocab / 2);
        match (self.logprobs(&[x], &[y]), self.logprobs(&[bos, x], &[y])) {
            (Ok(plain), Ok(behind)) if plain == behind => (
                Fail,
                format!(
                    "scores are the same with and without id {bos} in front: the server adds it to ids"
                ),
            ),
            (Ok(_), Ok(_)) => {
                (Pass, format!("ids are scored as sent; prompts of text begin with id {bos}"))
            }
            (Err(error), _) | (_, Err(error)) => (Fail, error),
        }
    }

    /// `T (log p_T(a) - log p_T(b))` does not depend on `T`.
    fn temperature(&self, samples: &Samples) -> Seen {
        const COLD: f32 = 0.5;
        let sample = &samples.sequences[0];
        let (a, b) = ([sample.response[0]], [sample.response[1]]);
        let (a, b) = if a == b { (a, [samples.sequences[1].prompt[0]]) } else { (a, b) };
        let pairs = [(&sample.prompt[..], &a[..]), (&sample.prompt[..], &b[..])];
        let gap = |temperature: f32| -> std::result::Result<f32, String> {
            let scores = self.score(&pairs, temperature, Wanted::Sampled)?;
            let values = scores.logprobs.values();
            let gap = values[0].zip(values[1]).map(|(a, b)| temperature * (a - b));
            gap.ok_or_else(|| "a score is missing".to_owned())
        };
        match (gap(1.0), gap(COLD)) {
            (Err(error), _) => (Fail, error),
            (Ok(warm), Ok(cold)) if (warm - cold).abs() > NOISE => (
                Fail,
                format!(
                    "asked for temperature {COLD}, it said that it honours it, but log-probs differ by {:.3} from what that gives",
                    (warm - cold).abs()
                ),
            ),
            (Ok(_), Ok(_)) => (Pass, "any temperature is honoured".into()),
            (Ok(_), Err(_)) if self.needs.temperature == 1.0 => {
                (Warn, "it scores at temperature 1 only; sample at 1".into())
            }
            (Ok(_), Err(error)) => {
                (Fail, format!("the run samples at {}: {error}", self.needs.temperature))
            }
        }
    }

    fn top_k(&self, samples: &Samples) -> Seen {
        let sample = &samples.sequences[0];
        let pair = [(&sample.prompt[..], &sample.response[..2])];
        let vocab = self.subject.limits().vocab_size.unwrap_or(usize::MAX);
        let sizes = [1, 5, 20, 50, 100, 1000].into_iter().chain(self.needs.top_k);
        let mut sizes: Vec<usize> = sizes.filter(|&k| k <= vocab).collect();
        sizes.sort_unstable();
        let mut most = 0;
        let mut refused = None;
        for k in sizes {
            let Ok(scores) = self.score(&pair, 1.0, Wanted::TopK(k)) else {
                refused = Some(k);
                break;
            };
            let top = scores.top.filter(|top| top.logprobs.iter().all(|x| !x.is_nan()));
            let Some(top) = top else {
                refused = Some(k);
                break;
            };
            if !top.logprobs.chunks(k).all(|list| list.is_sorted_by(|a, b| a >= b)) {
                return (Fail, format!("the {k} likeliest ids are not sorted"));
            }
            let sampled = scores.logprobs.values().iter().zip(&sample.response);
            for ((own, token), place) in sampled.zip(0..) {
                let ids = &top.ids[place * k..(place + 1) * k];
                let listed =
                    ids.iter().position(|id| id == token).map(|at| top.logprobs[place * k + at]);
                if let (Some(own), Some(listed)) = (own, listed)
                    && (own - listed).abs() > NOISE
                {
                    return (
                        Fail,
                        format!(
                            "id {token} has log-prob {own} alone and {listed} among the likeliest"
                        ),
                    );
                }
            }
            most = k;
        }
        let said = match refused {
            None => format!("at least {most}"),
            Some(k) => format!("{most}, but not {k}"),
        };
        match self.needs.top_k {
            Some(needed) if needed > most => (Fail, format!("{said}; the run needs {needed}")),
            _ if most == 0 => (Warn, "it gives no likeliest ids".into()),
            _ => (Pass, said),
        }
    }

    fn length(&self, samples: &Samples) -> Seen {
        let Some(longest) = self.subject.limits().longest else {
            return (NotChecked, "the server does not say how long sequences may be".into());
        };
        if let Some(needed) = self.needs.longest.filter(|&needed| needed > longest) {
            return (Fail, format!("at most {longest} tokens; the run needs {needed}"));
        }
        let tokens: Vec<u32> =
            samples.sequences.iter().flat_map(|s| s.response.iter().copied()).collect();
        let sent = longest.min(LONGEST_SENT);
        let sequence: Vec<u32> = tokens.into_iter().cycle().take(sent).collect();
        match self.logprobs(&sequence[..sent - 1], &sequence[sent - 1..]) {
            Ok(_) if sent == longest => (Pass, format!("{longest} tokens, tried")),
            Ok(_) => (Pass, format!("{longest} tokens; {sent} were tried")),
            Err(error) => {
                (Fail, format!("{sent} tokens, within its own limit of {longest}: {error}"))
            }
        }
    }

    fn speed(&self, samples: &Samples) -> Seen {
        let pairs: Vec<(&[u32], &[u32])> =
            samples.sequences.iter().map(|s| (&s.prompt[..], &s.response[..])).collect();
        let tokens: usize = pairs.iter().map(|(p, r)| p.len() + r.len()).sum();
        let time = |pairs: &[(&[u32], &[u32])]| {
            let start = Instant::now();
            self.score(pairs, 1.0, Wanted::Sampled).map(|_| start.elapsed().as_secs_f64())
        };
        let best = |pairs: &[(&[u32], &[u32])]| -> std::result::Result<f64, String> {
            let times = (0..3).map(|_| time(pairs)).collect::<std::result::Result<Vec<_>, _>>()?;
            Ok(times.into_iter().fold(f64::INFINITY, f64::min))
        };
        match (best(&pairs[..1]), best(&pairs)) {
            (Ok(one), Ok(all)) => {
                let rate = tokens as f64 / all.max(1e-9);
                (
                    Pass,
                    format!(
                        "one sequence in {:.1} ms; {rate:.0} tokens/s in a batch of {}",
                        1e3 * one,
                        pairs.len()
                    ),
                )
            }
            (Err(error), _) | (_, Err(error)) => (Fail, error),
        }
    }

    /// `mean(student - teacher)` over the student's own tokens estimates `KL(student || teacher)`.
    fn divergence(&self, samples: &Samples, student: &CausalLm) -> Seen {
        let pairs: Vec<(&[u32], &[u32])> =
            samples.sequences.iter().map(|s| (&s.prompt[..], &s.response[..])).collect();
        let scores = match self.score(&pairs, samples.temperature, Wanted::Sampled) {
            Ok(scores) => scores,
            Err(error) => return (Fail, error),
        };
        let own = samples.sequences.iter().flat_map(|sample| &sample.logprobs);
        let gaps: Vec<f64> = own
            .zip(scores.logprobs.values())
            .filter_map(|(own, teacher)| Some(f64::from(*own) - f64::from((*teacher)?)))
            .collect();
        let n = gaps.len().max(1) as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        let error = (spread / n).sqrt();
        let largest = gaps.iter().fold(0.0f64, |largest, gap| largest.max(gap.abs()));
        let same = self.subject.model_dir.as_ref().and_then(|dir| dir.canonicalize().ok());
        let same = same.is_some() && same == student.source().canonicalize().ok();
        let kl = format!("KL(student || teacher) {mean:.2e} ± {error:.1e} nats a token");
        match same {
            true if mean.abs() > 0.01 + 3.0 * error => (
                Fail,
                format!(
                    "teacher and student are one model, but {kl}, largest difference {largest:.2e}"
                ),
            ),
            true => (
                Pass,
                format!(
                    "null test, one model on both sides: {kl}, largest difference {largest:.1e}"
                ),
            ),
            false if mean > 5.0 => (
                Warn,
                format!(
                    "{kl}: the teacher finds what the student writes very unlikely; is it of the same family?"
                ),
            ),
            false => (Pass, kl),
        }
    }
}
