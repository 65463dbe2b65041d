use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use candle_core::{DType, Device};
use clap::{Args, ValueEnum, value_parser};
use opd_http::{ApiKey, Retry, Settings};
use opd_models::{CausalLm, hub_id, is_model, resolve};
use opd_probe::{Kind, Needs, Report, Subject, probe};
use opd_teacher::RemoteSettings;
use opd_train::config::{TeacherConfig, TeacherKind, TrainConfig};

use crate::{compute::Compute, failure::Failure, flags::positive, records};

/// Check a teacher before a run relies on it
///
/// Asks a server (its URL) or a model directory all that a run will: health, identity, one
/// finite score for each token at its own place, temperature, likeliest ids, longest sequence,
/// the same tokenizer as the student's, speed, and how far the student is from it. A directory
/// that is the student's own is the null test: the divergence must be noise.
///
/// Exit codes: 0 all is well or only warned of, 1 a run would go wrong, 2 bad usage.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckTeacherArgs {
    /// URL of a server (http://HOST:PORT), a Hugging Face model directory, a GGUF file, or a name
    /// on the hub
    #[arg(value_name = "URL|MODEL")]
    teacher: String,
    /// The student: a Hugging Face model directory, a GGUF file, or a name on the hub
    #[arg(long, value_name = "MODEL")]
    student: PathBuf,
    /// What the server speaks; asked of it unless given (`opd serve` is asked as sglang)
    #[arg(long, value_name = "TYPE")]
    opd_type: Option<Speaks>,
    /// Temperature at which the run will sample
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = positive)]
    temperature: f64,
    /// Tokens of the run's longest prompt and response together
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_length: Option<u32>,
    /// Likeliest ids per token that the run will ask for
    #[arg(long, value_name = "K", value_parser = value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Environment variable that holds the server's bearer key
    #[arg(long, value_name = "NAME", conflicts_with = "rm_api_key_file")]
    rm_api_key_env: Option<String>,
    /// File that holds the server's bearer key
    #[arg(long, value_name = "FILE")]
    rm_api_key_file: Option<PathBuf>,
    /// Print the checks as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Speaks {
    Sglang,
    Vllm,
}

/// Runs the command.
pub(crate) fn check_teacher(args: &CheckTeacherArgs) -> anyhow::Result<()> {
    let key = ApiKey::named(args.rm_api_key_env.as_deref(), args.rm_api_key_file.as_deref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let device = args.compute.start()?;
    let student = CausalLm::load(resolve(&args.student)?, DType::F32, &device)?;
    let subject = if args.teacher.contains("://") {
        let kind = args.opd_type.map(|speaks| match speaks {
            Speaks::Sglang => Kind::Sglang,
            Speaks::Vllm => Kind::Vllm,
        });
        Subject::server(&args.teacher, kind, settings(key, &student))?
    } else if names_model(Path::new(&args.teacher)) {
        Subject::directory(resolve(&args.teacher)?, &device)?
    } else {
        return Err(Failure::usage(format!(
            "{}: neither a directory nor a URL; write http://HOST:PORT for a server",
            args.teacher
        )));
    };
    let needs = Needs {
        temperature: args.temperature as f32,
        longest: args.max_length.map(|n| n as usize),
        top_k: args.top_k.map(|k| k as usize),
    };
    let report = probe(&subject, &student, needs)?;
    match args.json {
        true => records::print(&format!("{}\n", serde_json::to_string(&report)?))?,
        false => records::print(&report.table())?,
    }
    match report.failed() {
        false => Ok(()),
        true => Err(refused(&report)),
    }
}

/// Whether a text is a directory, a GGUF file or a name on the hub.
fn names_model(path: &Path) -> bool {
    path.is_dir() || is_model(path) || hub_id(path).is_some()
}

/// Probes every server of a run; a failed check ends it.
pub(crate) fn check_servers(
    config: &TrainConfig,
    device: &Device,
    quiet: bool,
) -> anyhow::Result<()> {
    let teachers = config.all_teachers();
    // The probe asks by the student's ids, which mean nothing to another tokenizer.
    let asked = |teacher: &&TeacherConfig| teacher.kind.is_remote() && teacher.tokenizer.is_none();
    let mut remote = teachers.iter().filter(asked).peekable();
    if remote.peek().is_none() {
        return Ok(());
    }
    let student = CausalLm::load(&config.student.path, DType::F32, device)?;
    let biased = config.distillation.as_ref().is_some_and(|d| d.accept_temperature_bias);
    let needs = Needs {
        temperature: if biased { 1.0 } else { config.rollout.temperature as f32 },
        // Prompts are not read yet: each has a token at least.
        longest: Some(config.rollout.max_response_tokens + 1),
        top_k: config.objective.loss.is_top_k().then_some(config.objective.top_k),
    };
    for teacher in remote {
        let kind = if teacher.kind == TeacherKind::Vllm { Kind::Vllm } else { Kind::Sglang };
        for url in &teacher.urls {
            let settings = settings(teacher.api_key()?, &student);
            let subject = Subject::server(url, Some(kind), settings)?;
            let report = probe(&subject, &student, needs)?;
            if !quiet {
                eprint!("{}", report.table());
            }
            if report.failed() {
                return Err(refused(&report).context(
                    "the teacher did not pass its checks; --skip-teacher-check trains nevertheless",
                ));
            }
        }
    }
    Ok(())
}

fn settings(key: Option<ApiKey>, student: &CausalLm) -> RemoteSettings {
    // A check is not worth the patience that a run has.
    let retry =
        Retry { attempts: 3, patience: Duration::from_secs(10), ..Settings::default().retry };
    let http = Settings { key, retry, ..Settings::default() };
    let vocab_size = Some(student.config().vocab_size);
    RemoteSettings { http, vocab_size, ..RemoteSettings::default() }
}

fn refused(report: &Report) -> anyhow::Error {
    let failed = report.checks.iter().filter(|check| check.outcome == opd_probe::Outcome::Fail);
    let failed: Vec<String> =
        failed.map(|check| format!("{}: {}", check.name, check.said)).collect();
    anyhow::anyhow!("teacher {}: {}", report.teacher, failed.join("; "))
}
