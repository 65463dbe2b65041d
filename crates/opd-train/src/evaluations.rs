//! What a run evaluates, and when.

use std::ops::ControlFlow;

use crate::{
    Endings, Evaluator, Event, Job, Observer, Prompt, Result,
    report::{Evaluation, Who},
    showcase::Showcase,
    teachers::ForeignTeacher,
};

impl Job {
    pub(crate) fn evaluator(&self) -> Evaluator<'_> {
        let config = &self.trainer.config;
        Evaluator {
            tokenizer: &self.trainer.tokenizer,
            endings: self.trainer.endings.clone(),
            reward: self.trainer.parts.reward.as_ref(),
            samples_per_prompt: config.evaluation.samples_per_prompt,
            temperature: config.evaluation.temperature,
            top_k: config.evaluation.top_k,
            top_p: config.evaluation.top_p,
            max_response_tokens: (config.evaluation.max_response_tokens)
                .unwrap_or(config.rollout.max_response_tokens),
            max_sequences: config.rollout.max_sequences,
            packed_weights: config.rollout.packed_weights,
            seed: config.seed,
        }
    }

    /// The student before training, the teacher, and what the report shows of the start.
    pub(crate) fn evaluate_before(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let before = self.evaluate(Who::Before, observer)?;
        let teacher = match self.trainer.config.evaluation.teacher {
            true => self.evaluate(Who::Teacher, observer)?,
            false => None,
        };
        self.state.evaluations = before.into_iter().chain(teacher).collect();
        self.state.showcase_before = self.showcase()?;
        Ok(())
    }

    /// pass@1 on the test prompts; `None` without prompts, or without a teacher to ask.
    pub(crate) fn evaluate(
        &self,
        who: Who,
        observer: &mut dyn Observer,
    ) -> Result<Option<Evaluation>> {
        let Some(prompts) = &self.test else { return Ok(None) };
        let teachers = self.teachers.as_ref().filter(|_| who == Who::Teacher);
        let foreign = teachers.and_then(|teachers| teachers.foreign.as_ref());
        let in_process = teachers.and_then(|teachers| teachers.in_process.as_ref());
        let model = match (who, foreign, in_process) {
            (Who::Teacher, Some(foreign), _) => foreign.teacher.model(),
            (Who::Teacher, None, Some(teacher)) => teacher.model(),
            (Who::Teacher, None, None) => return Ok(None),
            _ => &self.trainer.student,
        };
        let n = self.trainer.config.evaluation.test_prompts.unwrap_or(prompts.len());
        let n = n.min(prompts.len());
        observer.event(Event::EvaluationStarted { who, prompts: n });
        let mut evaluator = self.evaluator();
        let progress = |done, of| told(observer, done, of);
        let evaluation = match foreign {
            None => evaluator.evaluate(who, model, prompts, n, progress)?,
            Some(ForeignTeacher { theirs, students, .. }) => {
                evaluator.tokenizer = &theirs.tokenizer;
                evaluator.endings =
                    Endings::by_text(&self.trainer.config.rollout, &theirs.tokenizer)?;
                let ids = |prompt: &Prompt| {
                    let asked = prompt.teacher_tokens.as_ref().unwrap_or(&prompt.tokens);
                    Ok(theirs.tokenizer.encode(&students.tokenizer.decode(asked)?)?)
                };
                evaluator.evaluate_on(ids, who, model, prompts, n, progress)?
            }
        };
        observer.event(Event::Evaluated { who, evaluation: &evaluation });
        Ok(Some(evaluation))
    }

    /// pass@1 and pass@k on the validation prompts and on every further set, as metrics, if there are
    /// any and they are asked for.
    pub(crate) fn validate(&self, observer: &mut dyn Observer) -> Result<Vec<(String, f64)>> {
        let config = &self.trainer.config.evaluation;
        let mut metrics = Vec::new();
        if config.interval == 0 {
            return Ok(metrics);
        }
        let validation = self.validation.iter().map(|prompts| ("eval".to_owned(), prompts));
        let sets = self.eval_sets.iter().map(|(name, prompts)| (format!("eval/{name}"), prompts));
        for (place, prompts) in validation.chain(sets) {
            let n = config.validation_prompts.min(prompts.len());
            let student = &self.trainer.student;
            let progress = |done, of| told(observer, done, of);
            let evaluation =
                self.evaluator().evaluate(Who::After, student, prompts, n, progress)?;
            metrics.push((format!("{place}/pass_at_1"), evaluation.pass_at_1));
            let several = evaluation.pass_at_k.iter();
            metrics.extend(several.map(|one| (format!("{place}/pass_at_{}", one.k), one.rate)));
        }
        Ok(metrics)
    }

    pub(crate) fn showcase(&self) -> Result<Showcase> {
        let Some(prompts) = self.test.as_ref().or(self.validation.as_ref()) else {
            return Ok(Showcase::default());
        };
        let teacher = self.teachers.as_ref().map(|teachers| teachers.scorer.as_ref());
        let shown = self.trainer.config.evaluation.report_samples;
        Showcase::new(&self.evaluator(), &self.trainer.student, teacher, prompts, shown)
    }
}

/// Tells of answers given; breaks if the observer asks to leave.
fn told(observer: &mut dyn Observer, done: usize, of: usize) -> ControlFlow<()> {
    observer.event(Event::EvaluationProgress { done, of });
    match observer.interrupted() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}
