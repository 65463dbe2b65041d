use std::{fmt, sync::Arc, thread};

use opd_batch::{ScoreRequest, Teacher, TeacherScores, TopLogprobs, Wanted};

use crate::{Error, Result};

/// Several teachers as one: the weighted mean of their probabilities.
///
/// ```text
/// logprob_t = ln sum_i w_i exp(logprob_{i,t}),   w_i = weight_i / sum_j weight_j
/// ```
///
/// In nats, computed in f64. A token that one member has no score for has none.
#[derive(Clone)]
pub struct EnsembleTeacher {
    name: String,
    /// Each with the logarithm of its weight.
    members: Vec<(f64, Arc<dyn Teacher>)>,
}

impl EnsembleTeacher {
    /// Members with weights above 0, which need not sum to 1.
    ///
    /// # Errors
    ///
    /// [`Error::Teachers`] if there is no member or a weight is not above 0.
    pub fn new(members: Vec<(f64, Arc<dyn Teacher>)>) -> Result<Self> {
        let total: f64 = members.iter().map(|(weight, _)| weight).sum();
        if members.is_empty() {
            return Err(Error::Teachers { what: "an ensemble needs a member".into() });
        }
        let bad = |weight: &f64| !(weight.is_finite() && *weight > 0.0);
        if let Some((weight, teacher)) = members.iter().find(|(weight, _)| bad(weight)) {
            let what =
                format!("teacher `{}`: its weight must be above 0, got {weight}", teacher.name());
            return Err(Error::Teachers { what });
        }
        let shares = members.iter().map(|(weight, teacher)| {
            let percent = 100.0 * weight / total;
            format!("{percent:.0}% {}", teacher.name())
        });
        let name = shares.collect::<Vec<_>>().join(" and ");
        let log = |(weight, teacher): (f64, Arc<dyn Teacher>)| ((weight / total).ln(), teacher);
        Ok(Self { name, members: members.into_iter().map(log).collect() })
    }

    /// `ln sum_i exp(log w_i + x_i)`.
    fn mean(&self, values: impl Iterator<Item = Option<f32>>) -> Option<f32> {
        let terms = self.members.iter().zip(values);
        let terms: Option<Vec<f64>> =
            terms.map(|((weight, _), value)| Some(weight + f64::from(value?))).collect();
        let terms = terms?;
        let greatest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = terms.iter().map(|term| (term - greatest).exp()).sum();
        Some((greatest + sum.ln()) as f32)
    }
}

impl Teacher for EnsembleTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> opd_batch::Result<String> {
        let members = self.members.iter();
        let identities: Vec<String> = members
            .map(|(weight, teacher)| Ok(format!("{weight:?}: {}", teacher.identity()?)))
            .collect::<opd_batch::Result<_>>()?;
        Ok(format!("mean of [{}]", identities.join("; ")))
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        if let Wanted::TopK(k) = request.wanted {
            return Err(opd_batch::Error::Unsupported {
                teacher: self.name.clone(),
                wanted: format!("the {k} likeliest ids"),
                remedy: "its members' likeliest ids differ: name the ids, or take one teacher"
                    .into(),
            });
        }
        let scores = thread::scope(|scope| {
            let members = self.members.iter();
            let threads: Vec<_> =
                members.map(|(_, teacher)| scope.spawn(|| teacher.score(request))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<opd_batch::Result<Vec<TeacherScores>>>()
        })?;
        let rows = request.rows();
        for scores in &scores {
            scores.logprobs.check_rows(&rows, "teacher_logprobs")?;
        }
        if scores.windows(2).any(|pair| pair[0].spans != pair[1].spans) {
            let what = "its members cut texts into different spans; give all one tokenizer";
            return Err(opd_batch::Error::Teacher {
                teacher: self.name.clone(),
                source: Box::new(Error::Teachers { what: what.into() }),
            });
        }
        let spans = scores.first().and_then(|scores| scores.spans.clone());
        let at = |t: usize| self.mean(scores.iter().map(|scores| scores.logprobs.values()[t]));
        let logprobs: Vec<Option<f32>> = (0..rows.n_tokens()).map(at).collect();
        let logprobs = opd_batch::Ragged::new("teacher_logprobs", rows, logprobs)?;
        let tops: Option<Vec<&TopLogprobs>> =
            scores.iter().map(|scores| scores.top.as_ref()).collect();
        let top = tops.filter(|tops| !tops.is_empty()).map(|tops| {
            let n = tops[0].logprobs.len();
            let known = |value: f32| Some(value).filter(|value| !value.is_nan());
            let at = |i: usize| self.mean(tops.iter().map(|top| known(top.logprobs[i])));
            let logprobs = (0..n).map(|i| at(i).unwrap_or(f32::NAN)).collect();
            TopLogprobs { k: tops[0].k, ids: tops[0].ids.clone(), logprobs }
        });
        let scores = TeacherScores { logprobs, top, spans };
        scores.check()?;
        Ok(scores)
    }
}

impl fmt::Debug for EnsembleTeacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnsembleTeacher").field("name", &self.name).finish_non_exhaustive()
    }
}
