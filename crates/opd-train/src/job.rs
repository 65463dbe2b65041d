use std::{fs, num::NonZeroUsize, path::Path, time::Instant};

use candle_core::Device;
use opd_data::DataFiles;
use opd_models::{ChatTemplate, Tokenizer};

use crate::{
    AdamW, Critic, Error, Event, Observer, PromptReader, Result, RolloutDump, Supervised,
    TokenizedPrompts, Trainer, assemble,
    config::{StopAction, TrainConfig},
    finish,
    prompt_files::{self, PromptFile},
    reference,
    report::Who,
    run::{
        CheckpointStore, MetricSink, RunDir, Sinks, StepMetrics, Summary, key, write_atomically,
    },
    state::{CRITIC, OPTIMIZER, TrainerState},
    stop_rules::StopRules,
    student,
    teachers::{Demands, Teachers},
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are made and everything is written.
    Finished(Summary),
    /// The observer asked to leave.
    Interrupted {
        /// Completed steps, all of them saved.
        step: u64,
    },
}

/// A run in its directory, from loading to the summary.
#[allow(missing_debug_implementations)]
pub struct Job {
    pub(crate) dir: RunDir,
    pub(crate) trainer: Trainer,
    pub(crate) teachers: Option<Teachers>,
    pub(crate) test: Option<TokenizedPrompts>,
    pub(crate) validation: Option<TokenizedPrompts>,
    /// Further held-out prompts, by name.
    pub(crate) eval_sets: Vec<(String, TokenizedPrompts)>,
    pub(crate) state: TrainerState,
    pub(crate) sinks: Sinks,
    /// When this process took the run up.
    started: Instant,
    /// `state.seconds_total` at that time.
    seconds_before: f64,
    pub(crate) resumes: bool,
}

impl Job {
    /// A new run.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the configuration, the models or the data.
    pub fn create(config: TrainConfig, dir: RunDir, device: &Device) -> Result<Self> {
        config.validate()?;
        let text = to_toml(&config, &dir)?;
        let job = Self::load(config, dir, device)?;
        write_atomically(&job.dir.config(), text.as_bytes())?;
        Ok(job)
    }

    /// A run that goes on from its last good checkpoint, or from its start without one.
    ///
    /// # Errors
    ///
    /// As [`Job::create`]; [`Error::State`] for a checkpoint that is not of this run, or of other
    /// prompt files.
    pub fn resume(dir: RunDir, device: &Device) -> Result<Self> {
        let path = dir.config();
        let bad = |what: String| Error::State { path: path.clone(), what };
        let text = fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        let config: TrainConfig = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let config = config.read_from(dir.path());
        let mut job = Self::load(config, dir, device)?;
        job.resumes = true;
        let store = job.store()?;
        let Some(checkpoint) = store.latest()? else { return Ok(job) };
        let path = checkpoint.path();
        let state = TrainerState::read(path)?;
        prompt_files::check(&state.prompt_files, &job.state.prompt_files, &job.dir)?;
        job.state = TrainerState { prompt_files: job.state.prompt_files, ..state };
        job.seconds_before = job.state.seconds_total;
        student::reload(&job.trainer.student, path)?;
        if let Some(average) = &job.trainer.parts.average {
            average.load(path)?;
        }
        let (parameters, updates) = (job.trainer.student.parameters(), job.state.updates);
        job.trainer.optimizer = AdamW::load(parameters, &path.join(OPTIMIZER), updates, device)?;
        if let Some(critic) = &mut job.trainer.critic {
            critic.resume(&path.join(CRITIC), updates, device)?;
        }
        Ok(job)
    }

    fn load(config: TrainConfig, dir: RunDir, device: &Device) -> Result<Self> {
        let started = Instant::now();
        let path = &config.student.path;
        let student = student::load(&config, device)?;
        let tokenizer = Tokenizer::load(path)?;
        let reference = match config.needs_reference() {
            true => Some(reference::load(&config, &student, &tokenizer, device)?),
            false => None,
        };
        let data = &config.data;
        let told = config.distillation.as_ref().filter(|d| d.tells_teacher());
        let response = config.rollout.max_response_tokens;
        let response = response.max(config.evaluation.max_response_tokens.unwrap_or(0));
        let template = data.chat_template.then(|| ChatTemplate::load(path)).transpose()?;
        let mut reader =
            PromptReader::of(data, &tokenizer, template.as_ref(), student.config(), response)?;
        reader.fields.teacher_prompt = told.and_then(|d| d.prompt_key.clone());
        let read_all = |reader: &PromptReader<'_>, files: DataFiles| -> Result<TokenizedPrompts> {
            let prompts = reader.read(files.paths())?;
            report_left_out(&files, &prompts);
            Ok(prompts)
        };
        let read =
            |reader: &PromptReader<'_>, path: &Path| read_all(reader, path.to_owned().into());
        let sft = &config.sft;
        let supervised = sft.data.as_deref().filter(|_| sft.coef > 0.0);
        let supervised = supervised.map(|path| read(&reader, path)).transpose()?;
        reader.teacher = told.map(|d| d.prompt_template.as_deref());
        reader.teacher_required = true;
        let prompts = read_all(&reader, data.train.clone())?;
        reader.teacher_required = false;
        let test = data.test.as_deref().map(|path| read(&reader, path)).transpose()?;
        let validation = data.validation.as_deref().map(|path| read(&reader, path)).transpose()?;
        let eval_sets = data.named_eval_sets().into_iter();
        let eval_sets = eval_sets.map(|(name, path)| Ok((name, read(&reader, path)?)));
        let eval_sets: Vec<(String, TokenizedPrompts)> = eval_sets.collect::<Result<_>>()?;
        let held_out = test.iter().chain(&validation).chain(eval_sets.iter().map(|(_, set)| set));
        let all: Vec<&TokenizedPrompts> = [&prompts].into_iter().chain(held_out).collect();
        let longest = all.iter().map(|prompts| prompts.longest()).max();
        let longest = longest.unwrap_or(0) + response;
        let sources = all.into_iter().flat_map(TokenizedPrompts::sources).collect();
        let state =
            TrainerState { prompt_files: PromptFile::of(&prompts), ..TrainerState::default() };
        let demands = Demands { student: &student, longest, sources: &sources };
        let (mut parts, teachers) = assemble::parts(&config, demands, device)?;
        if sft.coef > 0.0 {
            let (coef, prompts) = (sft.coef, sft.prompts);
            parts.supervised = Some(Supervised { coef, prompts, data: supervised });
        }
        let critic = Critic::new(&config, &student, &tokenizer, longest, device)?;
        let dump = RolloutDump::every(config.rollout.dump_interval, dir.rollouts());
        let trainer = Trainer::new(student, tokenizer, prompts, parts, config)?;
        let trainer = Trainer { reference, critic, dump, ..trainer };
        Ok(Self {
            dir,
            trainer,
            teachers,
            test,
            validation,
            eval_sets,
            state,
            sinks: Sinks::default(),
            started,
            seconds_before: 0.0,
            resumes: false,
        })
    }

    /// Sends the metrics of every step to one more sink.
    #[must_use]
    pub fn with_sink(mut self, sink: impl MetricSink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Runs to the end, or until the observer asks to leave.
    ///
    /// # Errors
    ///
    /// [`Error::Step`] naming step and phase; [`Error::Stopped`] if a stop rule ends the run.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        match self.work(observer) {
            Ok(summary) => Ok(Outcome::Finished(summary)),
            Err(Error::Interrupted) => Ok(Outcome::Interrupted { step: self.state.step }),
            Err(error) => Err(error),
        }
    }

    /// The whole run; [`Error::Interrupted`] once everything is saved.
    fn work(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        self.announce(observer);
        let store = self.store()?;
        store.discard_after(self.state.step)?;
        let last = self.last_line();
        RolloutDump::discard_after(&self.dir.rollouts(), self.state.step)?;
        let history = self.open_sinks(last)?;
        let mut rules = StopRules::new(self.trainer.config.stop.clone());
        for past in &history {
            rules.observe(past);
        }
        if self.state.step == 0 {
            self.evaluate_before(observer)?;
            let metrics = self.validate(observer)?;
            if !metrics.is_empty() {
                self.sinks.write(&with_all(StepMetrics::new(0), &metrics))?;
            }
        }
        let steps = self.trainer.config.steps;
        loop {
            let line = match self.state.unevaluated.take() {
                Some(line) => line,
                None if self.state.step < steps => self.step()?,
                None => break,
            };
            let line = match self.with_evaluation(&line, observer) {
                Err(Error::Interrupted) => {
                    self.state.unevaluated = Some(line);
                    self.sinks.sync()?;
                    self.save(&store, None, observer)?;
                    return Err(Error::Interrupted);
                }
                line => line?,
            };
            self.sinks.write(&line)?;
            observer.event(Event::Step { metrics: &line, steps });
            let alarms = rules.observe(&line);
            for message in &alarms {
                observer.event(Event::Warning { message });
            }
            let leaves = observer.interrupted();
            let stops = self.trainer.config.stop.action == StopAction::Stop && !alarms.is_empty();
            let interval = self.trainer.config.checkpoints.interval;
            let due = interval > 0 && self.state.step.is_multiple_of(interval);
            if due || leaves || stops || self.state.step == steps {
                self.sinks.sync()?;
                self.save(&store, line.get(key::PASS_AT_1), observer)?;
            }
            if stops {
                return Err(Error::Stopped { step: self.state.step, what: alarms.join("; ") });
            }
            if leaves {
                return Err(Error::Interrupted);
            }
        }
        self.sinks.finish()?;
        let after = self.evaluate(Who::After, observer)?;
        finish::write(self, after)
    }

    /// The next step of training.
    fn step(&mut self) -> Result<StepMetrics> {
        let line = self.trainer.step(self.state.step)?;
        self.state.step += 1;
        self.state.updates = self.trainer.optimizer.updates();
        self.state.generated_tokens += line.get("generated_tokens").unwrap_or(0.0) as u64;
        self.state.seconds_training += line.get(key::SECONDS_STEP).unwrap_or(0.0);
        Ok(line)
    }

    /// A step's metrics, with pass@1 on the validation prompts where that is due.
    fn with_evaluation(
        &self,
        line: &StepMetrics,
        observer: &mut dyn Observer,
    ) -> Result<StepMetrics> {
        let line = line.clone();
        let interval = self.trainer.config.evaluation.interval;
        if interval == 0 || !self.state.step.is_multiple_of(interval) {
            return Ok(line);
        }
        Ok(with_all(line, &self.validate(observer)?))
    }

    /// Seconds of work on this run, earlier processes' included.
    pub(crate) fn seconds_total(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn announce(&self, observer: &mut dyn Observer) {
        observer.event(Event::Loaded {
            student: &self.trainer.config.student.path.display().to_string(),
            teacher: self.teachers.as_ref().map(|teachers| teachers.scorer.name()),
            parameters: self.trainer.student.n_weights(),
            trained: self.trainer.student.parameters().n_values(),
        });
        if self.resumes {
            observer.event(Event::Resumed { step: self.state.step });
            for evaluation in &self.state.evaluations {
                observer.event(Event::Evaluated { who: evaluation.who, evaluation });
            }
        }
    }

    fn store(&self) -> Result<CheckpointStore> {
        let keep = self.trainer.config.checkpoints.keep_last;
        Ok(CheckpointStore::open(&self.dir, NonZeroUsize::new(keep).unwrap_or(NonZeroUsize::MIN))?)
    }

    fn save(
        &mut self,
        store: &CheckpointStore,
        score: Option<f64>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.state.seconds_total = self.seconds_total();
        let (state, trainer) = (&self.state, &self.trainer);
        let path = store.save(state.step, score, |dir| -> Result<()> {
            let shard_bytes = trainer.config.checkpoints.max_shard_bytes;
            student::save(&trainer.student, dir, shard_bytes)?;
            trainer.optimizer.save(trainer.student.parameters(), &dir.join(OPTIMIZER))?;
            if let Some(critic) = &trainer.critic {
                critic.save(&dir.join(CRITIC), shard_bytes)?;
            }
            if let Some(average) = &trainer.parts.average {
                average.save(dir, shard_bytes)?;
            }
            state.write(dir)
        })?;
        observer.event(Event::Saved { path: &path });
        Ok(())
    }
}

/// The text of `config.toml`.
pub(crate) fn to_toml(config: &TrainConfig, dir: &RunDir) -> Result<String> {
    let bad = |what: String| Error::State { path: dir.config(), what };
    let stored = config.stored_in(dir.path()).map_err(|error| bad(error.to_string()))?;
    toml::to_string(&stored).map_err(|error| bad(error.to_string()))
}

fn with_all(line: StepMetrics, metrics: &[(String, f64)]) -> StepMetrics {
    metrics.iter().fold(line, |line, (name, value)| line.with(name, *value))
}

/// Says which rows of files are not used.
fn report_left_out(files: &DataFiles, prompts: &TokenizedPrompts) {
    let (bad, long) = prompts.left_out();
    for row in prompts.bad() {
        tracing::warn!("{}:{}: {}", row.path.display(), row.row, row.what);
    }
    if bad > 0 {
        let n = prompts.len();
        tracing::warn!("{files}: {bad} bad rows are left out, {n} are used");
    }
    if long > 0 {
        tracing::warn!("{files}: {long} prompts are too long and left out");
    }
}
