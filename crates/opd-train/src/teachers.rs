//! From the teachers of the configuration to those that are asked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::Device;
use opd_batch::{Source, Teacher};
use opd_http::{ApiKey, Settings};
use opd_models::CausalLm;
use opd_teacher::{
    CrossTokenizerStates, CrossTokenizerTeacher, DistributionTeacher, InProcessTeacher, Journal,
    JournaledTeacher, Limits, RemoteSettings, ReplayTeacher, RoutedTeacher, SglangTeacher,
    VllmTeacher, Vocabulary,
};

use crate::{
    Result, TeacherNames,
    config::{ConfigError, DistillationConfig, TeacherConfig, TeacherKind, TrainConfig},
    run::{Checkpoint, RunDir},
    student,
    teacher_routes::{built_routes, check_tags, names, routes},
};

/// Who scores a run's samples.
pub(crate) struct Teachers {
    /// Scores the samples.
    pub(crate) scorer: Arc<dyn Teacher>,
    /// The only teacher, if it is in this process and its tokens are the student's.
    pub(crate) in_process: Option<Arc<InProcessTeacher>>,
    /// The only teacher, if it is in this process and has a tokenizer of its own.
    pub(crate) foreign: Option<ForeignTeacher>,
    /// Gives whole distributions: the only teacher, if it is in this process.
    pub(crate) distribution: Option<Arc<dyn DistributionTeacher>>,
    /// Its id of the same text as each of the student's, if it has another tokenizer.
    pub(crate) counterparts: Option<Vec<Option<u32>>>,
    /// Names by source, where there are several.
    pub(crate) names: TeacherNames,
}

/// A teacher in this process whose tokens are not the student's.
pub(crate) struct ForeignTeacher {
    pub(crate) teacher: Arc<InProcessTeacher>,
    pub(crate) theirs: Vocabulary,
    pub(crate) students: Vocabulary,
}

/// What the teachers must suit.
#[derive(Clone, Copy)]
pub(crate) struct Demands<'a> {
    pub(crate) student: &'a CausalLm,
    /// Tokens of the longest sequence.
    pub(crate) longest: usize,
    /// Where prompts come from.
    pub(crate) sources: &'a BTreeSet<Source>,
}

impl Teachers {
    /// Loads or connects to every teacher, and checks it.
    pub(crate) fn new(
        config: &TrainConfig,
        distillation: &DistillationConfig,
        demands: Demands<'_>,
        device: &Device,
    ) -> Result<Self> {
        let all = config.all_teachers();
        let only_replayed = all.iter().all(|teacher| teacher.kind == TeacherKind::Replay);
        let journal = match &distillation.journal {
            None => None,
            Some(path) if only_replayed => Some(Journal::open_existing(path)?),
            Some(path) => Some(Journal::open(path, distillation.journal_max_bytes)?),
        };
        let journal = journal.map(Arc::new);
        let mut distribution: Option<Arc<dyn DistributionTeacher>> = None;
        let (mut in_process, mut foreign, mut counterparts) = (None, None, None);
        let mut teachers: Vec<Arc<dyn Teacher>> = Vec::with_capacity(all.len());
        for teacher in &all {
            let across = teacher.tokenizer.as_deref();
            let across = across.map(|dir| vocabularies(dir, demands.student)).transpose()?;
            let built: Arc<dyn Teacher> = match (teacher.kind, &journal) {
                (TeacherKind::Replay, Some(journal)) => {
                    let identity = teacher.identity.clone();
                    Arc::new(ReplayTeacher::new(journal.clone(), identity)?)
                }
                (kind, _) if kind.is_in_process() => {
                    let loaded =
                        Arc::new(in_process_teacher(config, teacher, demands.student, device)?);
                    match &across {
                        None => {
                            loaded.check_student(demands.student, demands.longest)?;
                            in_process = Some(loaded.clone()).filter(|_| all.len() == 1);
                            distribution = Some(loaded.clone());
                        }
                        Some((theirs, students)) => {
                            loaded.check_context(demands.longest)?;
                            let own = ForeignTeacher {
                                teacher: loaded.clone(),
                                theirs: theirs.clone(),
                                students: students.clone(),
                            };
                            foreign = Some(own).filter(|_| all.len() == 1);
                            if config.objective.loss.is_cross_vocabulary() {
                                let size = demands.student.config().vocab_size;
                                counterparts = Some(students.counterparts(theirs, size));
                                let (theirs, students) = (theirs.clone(), students.clone());
                                let loaded = loaded.clone();
                                let states = CrossTokenizerStates::new(loaded, theirs, students);
                                distribution = Some(Arc::new(states));
                            }
                        }
                    }
                    loaded
                }
                _ => remote(config, distillation, teacher, demands)?,
            };
            let kept: Arc<dyn Teacher> = match &journal {
                Some(journal) if teacher.kind != TeacherKind::Replay => {
                    Arc::new(JournaledTeacher::new(built, journal.clone()))
                }
                _ => built,
            };
            teachers.push(match across {
                None => kept,
                Some((theirs, students)) => {
                    Arc::new(CrossTokenizerTeacher::new(kept, theirs, students))
                }
            });
        }
        if let [only] = all.as_slice()
            && only.tags.is_empty()
        {
            let scorer = teachers.remove(0);
            let names = TeacherNames::default();
            return Ok(Self { scorer, in_process, foreign, distribution, counterparts, names });
        }
        let routes = routes(&all);
        let routed = RoutedTeacher::new(built_routes(&routes, &all, &teachers)?)?;
        for source in demands.sources {
            routed.route(source)?;
        }
        check_tags(&all, demands.sources)?;
        let names = names(&routes, &all);
        let scorer = Arc::new(routed);
        Ok(Self {
            scorer,
            in_process: None,
            foreign: None,
            distribution: None,
            counterparts: None,
            names,
        })
    }
}

/// A model in this process: one that is named, or one that is made of the student.
///
/// Where the student has adapters, those made of it share its weights.
fn in_process_teacher(
    config: &TrainConfig,
    teacher: &TeacherConfig,
    student: &CausalLm,
    device: &Device,
) -> Result<InProcessTeacher> {
    Ok(match teacher.kind {
        TeacherKind::Start => InProcessTeacher::new(student::start(config, student, device)?)
            .named("the student before training"),
        TeacherKind::Ema => {
            let own = match student.lora() {
                Some(_) => student.with_own_adapter()?,
                None => student::loaded(&config.student.path, config, device)?,
            };
            InProcessTeacher::new(own).named("the student's moving average")
        }
        _ => InProcessTeacher::new(student::frozen(&dir(teacher)?, config, device)?),
    })
}

/// The teacher's vocabulary, from `dir`, and the student's.
fn vocabularies(dir: &Path, student: &CausalLm) -> Result<(Vocabulary, Vocabulary)> {
    Ok((Vocabulary::load(dir)?, Vocabulary::load(student.source())?))
}

fn remote(
    config: &TrainConfig,
    distillation: &DistillationConfig,
    teacher: &TeacherConfig,
    demands: Demands<'_>,
) -> Result<Arc<dyn Teacher>> {
    let client = &distillation.client;
    let http = Settings { key: teacher.api_key()?, seed: config.seed, ..client.settings() };
    let settings = RemoteSettings {
        http,
        vocab_size: teacher.tokenizer.is_none().then(|| demands.student.config().vocab_size),
        at_temperature_one: distillation.accept_temperature_bias,
        sequences_per_request: client.sequences_per_request,
        ..RemoteSettings::default()
    };
    let temperature = config.rollout.temperature;
    let (built, limits): (Arc<dyn Teacher>, Limits) = match teacher.kind {
        TeacherKind::Vllm => {
            let connected = VllmTeacher::connect(&teacher.urls, settings)?;
            let limits = connected.limits();
            (Arc::new(connected), limits)
        }
        _ => {
            let connected = SglangTeacher::connect(&teacher.urls, settings)?;
            match connected.check_temperature(temperature as f32) {
                Err(opd_batch::Error::Unsupported { teacher, .. }) => {
                    return Err(ConfigError::temperature(&teacher, temperature).into());
                }
                checked => checked?,
            }
            let limits = connected.limits();
            (Arc::new(connected), limits)
        }
    };
    let needed = demands.longest;
    match limits.longest.filter(|&longest| longest < needed) {
        None => Ok(built),
        Some(longest) => Err(ConfigError::Conflict {
            what: format!(
                "teacher `{}` takes sequences of {longest} tokens, and prompt and response may have {needed}",
                built.name()
            ),
            remedy: "raise the server's context length, or lower --rollout-max-response-len",
        }
        .into()),
    }
}

impl TeacherConfig {
    /// The key for its servers, if one is named.
    ///
    /// # Errors
    ///
    /// [`opd_http::Error`] if the variable or file holds none.
    pub fn api_key(&self) -> opd_http::Result<Option<ApiKey>> {
        ApiKey::named(self.api_key_env.as_deref(), self.api_key_file.as_deref())
    }
}

/// The directory of a teacher in this process.
fn dir(teacher: &TeacherConfig) -> Result<PathBuf> {
    let dir = teacher.path.clone().unwrap_or_default();
    match teacher.step {
        None => Ok(dir),
        Some(step) => checkpoint(&dir, step),
    }
}

/// The directory of a checkpoint of one of our own runs.
fn checkpoint(run: &Path, step: u64) -> Result<PathBuf> {
    if !run.join("checkpoints").is_dir() {
        return Err(ConfigError::Conflict {
            what: format!(
                "--opd-teacher-ckpt-step {step}: {} is not one of our run directories (it has no `checkpoints`)",
                run.display()
            ),
            remedy: "drop --opd-teacher-ckpt-step to load a plain model directory",
        }
        .into());
    }
    Ok(Checkpoint::open(RunDir::checkpoint_of(run, step))?.path().to_owned())
}
