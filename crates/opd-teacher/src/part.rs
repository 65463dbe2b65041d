use opd_batch::{
    Ragged, Rows, ScoreRequest, ScoredSequence, Source, SpanToken, TeacherScores, TopLogprobs,
    Wanted,
};

/// Some rows of a request, as a request of their own.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    rows: Vec<usize>,
    sequences: Vec<ScoredSequence<'a>>,
    sources: Vec<Source>,
    /// Of [`Wanted::Ids`].
    ids: Vec<u32>,
}

impl<'a> Part<'a> {
    pub(crate) fn new(request: &ScoreRequest<'a>, rows: Vec<usize>) -> Self {
        let sequences = rows.iter().map(|&row| request.sequences[row]).collect();
        let sources = match request.sources {
            [] => Vec::new(),
            sources => rows.iter().map(|&row| sources[row].clone()).collect(),
        };
        let boundaries = request.rows();
        let ids = rows.iter().flat_map(|&row| ids_of(request, &boundaries, row)).copied().collect();
        Self { rows, sequences, sources, ids }
    }

    /// The request; `wanted` is that of the whole.
    pub(crate) fn request(&self, temperature: f32, wanted: Wanted<'_>) -> ScoreRequest<'_> {
        let wanted = match wanted {
            Wanted::Ids { k, .. } => Wanted::Ids { k, ids: &self.ids },
            Wanted::TopK(k) => Wanted::TopK(k),
            _ => Wanted::Sampled,
        };
        let sources = &self.sources;
        ScoreRequest { sequences: self.sequences.clone(), temperature, wanted, sources }
    }

    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }
}

/// The ids that a request names for a row.
pub(crate) fn ids_of<'a>(request: &ScoreRequest<'a>, boundaries: &Rows, row: usize) -> &'a [u32] {
    match (request.wanted, boundaries.range(row)) {
        (Wanted::Ids { k, ids }, Some(range)) => {
            ids.get(range.start * k..range.end * k).unwrap_or_default()
        }
        _ => &[],
    }
}

/// Entries per position that a request wants beside the sampled tokens.
pub(crate) fn k_of(wanted: Wanted<'_>) -> usize {
    match wanted {
        Wanted::TopK(k) | Wanted::Ids { k, .. } => k,
        _ => 0,
    }
}

/// Scores of one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowScores {
    pub(crate) logprobs: Vec<Option<f32>>,
    /// `[T * k]`.
    pub(crate) ids: Vec<u32>,
    /// `[T * k]`.
    pub(crate) top: Vec<f32>,
    /// `[T]`, or empty where the teacher scored tokens.
    pub(crate) spans: Vec<SpanToken>,
}

impl RowScores {
    /// The rows of scores, in order.
    pub(crate) fn of(scores: &TeacherScores) -> Vec<Self> {
        let rows = scores.logprobs.rows();
        let spans = scores.spans.as_ref().map(|spans| spans.values());
        let row = |(range, logprobs): (std::ops::Range<usize>, &[Option<f32>])| {
            let spans = spans.map(|spans| spans[range.clone()].to_vec()).unwrap_or_default();
            let (ids, top) = match &scores.top {
                None => (Vec::new(), Vec::new()),
                Some(TopLogprobs { k, ids, logprobs }) => {
                    let range = range.start * k..range.end * k;
                    (ids[range.clone()].to_vec(), logprobs[range].to_vec())
                }
            };
            Self { logprobs: logprobs.to_vec(), ids, top, spans }
        };
        rows.ranges().zip(scores.logprobs.iter()).map(row).collect()
    }

    /// Scores of a whole request from those of its rows.
    pub(crate) fn join(
        request: &ScoreRequest<'_>,
        rows: Vec<Option<Self>>,
    ) -> opd_batch::Result<TeacherScores> {
        let k = k_of(request.wanted);
        let (mut logprobs, mut ids, mut top) = (Vec::new(), Vec::new(), Vec::new());
        let has_spans = rows.iter().flatten().any(|row| !row.spans.is_empty());
        let mut spans = Vec::new();
        for row in rows.into_iter().flatten() {
            if has_spans {
                let alone = row.spans.is_empty().then_some(SpanToken::End);
                spans.extend(alone.into_iter().cycle().take(row.logprobs.len()));
                spans.extend(row.spans);
            }
            logprobs.extend(row.logprobs);
            ids.extend(row.ids);
            top.extend(row.top);
        }
        let logprobs = Ragged::new("teacher_logprobs", request.rows(), logprobs)?;
        let top = (k > 0).then_some(TopLogprobs { k, ids, logprobs: top });
        let spans = has_spans.then(|| Ragged::new("spans", request.rows(), spans)).transpose()?;
        let scores = TeacherScores { logprobs, top, spans };
        scores.check()?;
        Ok(scores)
    }
}
