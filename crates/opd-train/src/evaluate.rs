use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use opd_models::{CausalLm, Tokenizer};
use opd_reward::Reward;
use opd_rollout::{InProcess, Request, RolloutEngine, Sampling, Strategy, Truncation};

use crate::{
    Endings, Error, Prompt, Result, TokenizedPrompts,
    pass_at_k::pass_at_powers,
    report::{Evaluation, Who},
    rewards::answer,
};

/// Streams of held-out prompts: apart from those of training, and the same before and after,
/// so that both answer with the same random numbers.
const STREAMS: u64 = 1 << 63;

/// Answers asked for at once, at most.
const CHUNK: usize = 2048;

/// A chunk that takes less may be followed by one of twice its size.
const PATIENCE: Duration = Duration::from_millis(400);

/// Asks a model held-out prompts and counts the right answers.
#[allow(missing_debug_implementations)]
pub struct Evaluator<'a> {
    /// Turns responses into text.
    pub tokenizer: &'a Tokenizer,
    /// What ends them, beside the end tokens of the model.
    pub endings: Endings,
    /// Judges them.
    pub reward: &'a dyn Reward,
    /// Answers per prompt.
    pub samples_per_prompt: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Draw only from the likeliest `k`.
    pub top_k: Option<usize>,
    /// Draw only from the likeliest that together reach this probability.
    pub top_p: Option<f64>,
    /// Longest response.
    pub max_response_tokens: usize,
    /// Sequences sampled side by side.
    pub max_sequences: usize,
    /// Whether to hold a second, faster copy of the weights meanwhile.
    pub packed_weights: bool,
    /// Fixes the random choices.
    pub seed: u64,
}

impl Evaluator<'_> {
    pub(crate) fn engine<'m>(&self, model: &'m CausalLm) -> InProcess<'m> {
        InProcess::new(model, self.max_sequences).packing_weights(self.packed_weights)
    }

    /// pass@1, and pass@k of several answers, of `model` on the first `n` of `prompts`; `progress`
    /// hears of answers given, every second or so where answers are quick, and may end the evaluation.
    ///
    /// # Errors
    ///
    /// Those of sampling; [`Error::Interrupted`] if `progress` breaks.
    pub fn evaluate(
        &self,
        who: Who,
        model: &CausalLm,
        prompts: &TokenizedPrompts,
        n: usize,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Evaluation> {
        let ids = |prompt: &Prompt| {
            let told = prompt.teacher_tokens.as_ref().filter(|_| who == Who::Teacher);
            Ok(told.unwrap_or(&prompt.tokens).clone())
        };
        self.evaluate_on(ids, who, model, prompts, n, progress)
    }

    /// The same for a model whose prompts are `ids`.
    pub(crate) fn evaluate_on(
        &self,
        ids: impl Fn(&Prompt) -> Result<Vec<u32>>,
        who: Who,
        model: &CausalLm,
        prompts: &TokenizedPrompts,
        n: usize,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Evaluation> {
        let sampling = self.sampling(model);
        let engine = self.engine(model);
        let of = n * self.samples_per_prompt;
        let mut right = vec![0_usize; n];
        let (mut start, mut chunk) = (0, self.max_sequences.clamp(1, CHUNK));
        while start < of {
            let began = Instant::now();
            let answers = start..of.min(start + chunk);
            let (per_prompt, all) = (self.samples_per_prompt, answers.clone());
            let asked = prompts.get_all(all.start / per_prompt..all.end.div_ceil(per_prompt))?;
            let prompt_of = |i: usize| asked.get(i / per_prompt - all.start / per_prompt);
            let requests = answers.clone().filter_map(|i| {
                let request = |prompt| Request { prompt, stream: STREAMS + i as u64 };
                Some(ids(prompt_of(i)?).map(request))
            });
            let requests: Vec<Request> = requests.collect::<Result<_>>()?;
            let generations = engine.generate(&requests, &sampling)?;
            let texts =
                generations.iter().map(|one| self.endings.read(self.tokenizer, &one.tokens));
            let texts: Vec<String> = texts.collect::<Result<_>>()?;
            let given = answers.clone().zip(&texts);
            let given = given.filter_map(|(i, text)| Some(answer(&prompt_of(i)?.example, text)));
            let rewards = self.reward.rewards(&given.collect::<Vec<_>>())?;
            for (i, reward) in answers.clone().zip(rewards) {
                if reward > 0.5 {
                    right[i / self.samples_per_prompt] += 1;
                }
            }
            start = answers.end;
            if progress(start, of).is_break() {
                return Err(Error::Interrupted);
            }
            if began.elapsed() < PATIENCE {
                // Answers do not depend on how many are asked for at once.
                chunk = CHUNK.min(2 * chunk);
            }
        }
        let samples = self.samples_per_prompt;
        let rates: Vec<f64> = right.iter().map(|&c| c as f64 / samples as f64).collect();
        let (pass_at_1, interval) = wilson_interval(&rates, samples);
        let pass_at_k = pass_at_powers(&right, samples);
        let (prompts, samples_per_prompt) = (n as u64, samples as u64);
        Ok(Evaluation { who, pass_at_1, interval, pass_at_k, prompts, samples_per_prompt })
    }

    pub(crate) fn sampling(&self, model: &CausalLm) -> Sampling {
        let strategy = match self.temperature {
            0.0 => Strategy::Greedy,
            temperature => {
                let kept = Truncation { top_k: self.top_k, top_p: self.top_p, min_p: None };
                Strategy::Random { temperature, kept }
            }
        };
        let (longest, eos) = (self.max_response_tokens, &model.config().eos_token_ids);
        self.endings.sampling(strategy, longest, eos, self.seed)
    }
}

/// Mean of the prompts' success rates (0 to 1) and its 95% Wilson interval, `[low, high]`.
///
/// With several answers per prompt the number of trials is the one that a binomial of the same
/// mean would need for the observed spread between prompts, so that answers to one prompt do
/// not count as independent.
///
/// Source: Wilson 1927, <https://doi.org/10.1080/01621459.1927.10502953>.
pub fn wilson_interval(rates: &[f64], samples_per_prompt: usize) -> (f64, [f64; 2]) {
    const Z: f64 = 1.959_963_984_540_054;
    let n = rates.len() as f64;
    if rates.is_empty() {
        return (0.0, [0.0, 1.0]);
    }
    let mean = rates.iter().sum::<f64>() / n;
    let spread = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let all = n * samples_per_prompt as f64;
    let trials = match samples_per_prompt {
        1 => n,
        _ if spread > 0.0 => (mean * (1.0 - mean) * n / spread).clamp(1.0, all),
        _ => n,
    };
    let z2 = Z * Z / trials;
    let centre = (mean + z2 / 2.0) / (1.0 + z2);
    let half = Z * (mean * (1.0 - mean) / trials + z2 / (4.0 * trials)).sqrt() / (1.0 + z2);
    (mean, [(centre - half).max(0.0), (centre + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::wilson_interval;

    #[test]
    fn interval_is_wilsons() {
        let rates: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i < 80))).collect();
        let (mean, [low, high]) = wilson_interval(&rates, 1);
        // statsmodels.stats.proportion.proportion_confint(80, 100, method="wilson")
        assert!((mean - 0.8).abs() < 1e-12);
        assert!((low - 0.711_170_83).abs() < 1e-7, "{low}");
        assert!((high - 0.866_633_1).abs() < 1e-6, "{high}");
    }

    #[test]
    fn answers_to_one_prompt_are_not_independent() {
        let alike: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i < 50))).collect();
        let mixed = vec![0.5; 100];
        let width = |rates: &[f64]| {
            let (_, [low, high]) = wilson_interval(rates, 8);
            high - low
        };
        assert!(width(&alike) > 0.18);
        assert!(width(&mixed) <= width(&alike));
    }
}
