//! The responses of a step, from whoever writes them.

use opd_batch::{Author, Rollout, RolloutBatch};
use opd_models::CausalLm;
use opd_rollout::{Generation, InProcess, Request, RolloutEngine, Sampling, Strategy, Truncation};

use crate::{
    Error, Prompt, Result, TokenizedPrompts, Trainer, authors::authors, config::ConfigError,
    label_rollouts::Labels, rewards::answer, run::StepMetrics,
};

/// Streams of the teacher's samples, apart from those of the student's.
const TEACHER_STREAMS: u64 = 4 << 60;

/// A step's responses.
pub(crate) struct Collected {
    pub(crate) batch: RolloutBatch,
    /// Mean reward of the student's samples; 0 without any.
    pub(crate) reward: f64,
    /// Tokens that student and teacher sampled.
    pub(crate) generated_tokens: usize,
}

/// A prompt of the step.
#[derive(Clone, Copy)]
struct Asked<'a> {
    /// Its place in the step.
    place: usize,
    prompt: &'a Prompt,
}

impl Trainer {
    /// Samples a batch, or takes its labels, prompt by prompt as the shares have it; rows are in
    /// the order of the prompts.
    pub(crate) fn collect(&self, step: u64) -> Result<Collected> {
        let rollout = &self.config.rollout;
        let indices = self.taken(&self.prompts, step, rollout.prompts);
        let prompts = self.prompts.get_all(indices)?;
        let asked = prompts.iter().enumerate().map(|(place, prompt)| Asked { place, prompt });
        let asked: Vec<Asked<'_>> = asked.collect();
        let authors = authors(&rollout.shares(), self.config.seed, step, asked.len());
        let of = |author: Author| -> Vec<Asked<'_>> {
            asked.iter().copied().filter(|asked| authors[asked.place] == author).collect()
        };
        let mut rows = self.labels(&of(Author::Label))?;
        let (mut reward, mut generated_tokens) = (0.0, 0);
        for author in [Author::Student, Author::Teacher] {
            let asked = of(author);
            if asked.is_empty() {
                continue;
            }
            let mut written = self.written_by(author, step, &asked)?;
            generated_tokens += written.iter().map(|rollout| rollout.response.len()).sum::<usize>();
            if author == Author::Student {
                let total: f64 = written.iter().map(|rollout| f64::from(rollout.reward)).sum();
                reward = total / written.len() as f64;
            }
            self.parts.truncation.apply(&mut written)?;
            rows.extend(written);
        }
        // Stable: the responses to a prompt stay in their order.
        rows.sort_by_key(|rollout| rollout.group);
        Ok(Collected { batch: RolloutBatch::from_rollouts(rows)?, reward, generated_tokens })
    }

    /// Which of `prompts` step `step` takes.
    pub(crate) fn taken(&self, prompts: &TokenizedPrompts, step: u64, n: usize) -> Vec<usize> {
        match self.config.rollout.shuffle {
            true => prompts.batch(self.config.seed, step, n),
            false => prompts.in_order(step, n),
        }
    }

    /// Labels as responses.
    fn labels(&self, asked: &[Asked<'_>]) -> Result<Vec<Rollout>> {
        let labels = self.label_maker();
        let rollout = |asked: &Asked<'_>| {
            let rollout = labels.rollout(asked.place as u32, asked.prompt)?;
            Ok(Rollout { teacher_prompt: asked.prompt.teacher_tokens.clone(), ..rollout })
        };
        asked.iter().map(rollout).collect()
    }

    pub(crate) fn label_maker(&self) -> Labels<'_> {
        Labels {
            tokenizer: &self.tokenizer,
            eos: self.student.config().eos_token_ids.first().copied(),
            longest: self.config.rollout.max_response_tokens,
        }
    }

    /// Samples of student or teacher, judged.
    fn written_by(&self, author: Author, step: u64, asked: &[Asked<'_>]) -> Result<Vec<Rollout>> {
        let rollout = &self.config.rollout;
        let per_prompt = rollout.samples_per_prompt;
        let first = step * (rollout.prompts * per_prompt) as u64;
        let (model, streams) = match author {
            Author::Teacher => (self.writer()?, TEACHER_STREAMS + first),
            _ => (&self.student, first),
        };
        let mut requests = Vec::with_capacity(asked.len() * per_prompt);
        for Asked { place, prompt } in asked {
            let told = prompt.teacher_tokens.as_ref().filter(|_| author == Author::Teacher);
            let prompt = told.unwrap_or(&prompt.tokens);
            for sample in 0..per_prompt {
                let stream = streams + (place * per_prompt + sample) as u64;
                requests.push(Request { prompt: prompt.clone(), stream });
            }
        }
        let mut engine =
            InProcess::new(model, rollout.max_sequences).packing_weights(rollout.packed_weights);
        if author == Author::Student && rollout.teacher_mixed_alpha > 0.0 {
            engine = engine.guided_by(self.writer()?, rollout.teacher_mixed_alpha);
        }
        let generations = engine.generate(&requests, &self.sampling(author))?;
        let text = |one: &Generation| self.endings.read(&self.tokenizer, &one.tokens);
        let texts: Vec<String> = generations.iter().map(text).collect::<Result<_>>()?;
        let answers = texts.iter().enumerate();
        let answers = answers.map(|(i, text)| answer(&asked[i / per_prompt].prompt.example, text));
        let rewards = self.parts.reward.rewards(&answers.collect::<Vec<_>>())?;
        let mut rollouts = Vec::with_capacity(generations.len());
        for (i, (generation, reward)) in generations.into_iter().zip(rewards).enumerate() {
            let Asked { place, prompt } = asked[i / per_prompt];
            rollouts.push(Rollout {
                prompt: prompt.tokens.clone(),
                teacher_prompt: prompt.teacher_tokens.clone(),
                response: generation.tokens,
                sampler_logprobs: generation.logprobs,
                truncated_logprobs: generation.truncated_logprobs,
                loss_mask: None,
                reward,
                group: place as u32,
                source: prompt.example.source.clone(),
                finish: generation.finish,
                author,
            });
        }
        Ok(rollouts)
    }

    fn writer(&self) -> Result<&CausalLm> {
        let missing = || ConfigError::Conflict {
            what: "the teacher is to write responses, and the run's parts hold no writer".into(),
            remedy: "set `Parts::writer` to a teacher in this process",
        };
        Ok(self.parts.writer.as_ref().ok_or_else(missing).map_err(Error::from)?.model())
    }

    /// Both end where the student's responses end.
    fn sampling(&self, author: Author) -> Sampling {
        let rollout = &self.config.rollout;
        let strategy = match (author, rollout.teacher_temperature) {
            (Author::Teacher, 0.0) => Strategy::Greedy,
            (Author::Teacher, temperature) => {
                Strategy::Random { temperature, kept: Truncation::default() }
            }
            _ => Strategy::Random { temperature: rollout.temperature, kept: rollout.truncation() },
        };
        let repetition_penalty = match author {
            Author::Teacher => 1.0,
            _ => rollout.repetition_penalty,
        };
        let eos = &self.student.config().eos_token_ids;
        let longest = rollout.max_response_tokens;
        let sampling = self.endings.sampling(strategy, longest, eos, self.config.seed);
        Sampling { repetition_penalty, ..sampling }
    }
}

impl Collected {
    /// Adds each author's share of the rows, where there may be several.
    pub(crate) fn shares(&self, mut metrics: StepMetrics) -> StepMetrics {
        let authors = self.batch.authors();
        for (name, author) in [
            ("responses/student", Author::Student),
            ("responses/label", Author::Label),
            ("responses/teacher", Author::Teacher),
        ] {
            let n = authors.iter().filter(|&&held| held == author).count();
            metrics = metrics.with(name, n as f64 / authors.len() as f64);
        }
        metrics
    }
}
