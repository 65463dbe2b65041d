//! The end of a run: model, report, and last of all the summary.

use std::{fs, path::Path};

use crate::{
    Job, Result,
    job::to_toml,
    report::{self, Evaluation, ReportData, Who},
    run::{Error as RunError, Intervals, PassAt1, Seconds, Summary},
};

pub(crate) fn write(job: &Job, after: Option<Evaluation>) -> Result<Summary> {
    let (student, shard_bytes) =
        (&job.trainer.student, job.trainer.config.checkpoints.max_shard_bytes);
    save_aside(job, &job.dir.model(), |dir| Ok(student.save_sharded(dir, shard_bytes)?))?;
    if student.lora().is_some() {
        save_aside(job, &job.dir.adapter(), |dir| Ok(student.save_adapter(dir)?))?;
    }
    if let Some(critic) = &job.trainer.critic {
        save_aside(job, &job.dir.critic(), |dir| critic.save_weights(dir, shard_bytes))?;
    }
    let (state, config) = (&job.state, &job.trainer.config);
    let evaluations: Vec<Evaluation> = state.evaluations.iter().cloned().chain(after).collect();
    let of = |who| evaluations.iter().find(|e| e.who == who);
    let [before, after_training, teacher] = [Who::Before, Who::After, Who::Teacher].map(of);
    let pass_at_1 = |e: Option<&Evaluation>| e.map(|e| e.pass_at_1);
    let interval = |e: Option<&Evaluation>| e.map(|e| e.interval);
    let summary = Summary {
        pass_at_1: PassAt1 {
            before: pass_at_1(before),
            after: pass_at_1(after_training),
            teacher: pass_at_1(teacher),
        },
        interval: Intervals {
            before: interval(before),
            after: interval(after_training),
            teacher: interval(teacher),
        },
        seconds: Seconds { training: state.seconds_training, total: job.seconds_total() },
        generated_tokens: state.generated_tokens,
        seed: config.seed,
        steps: state.step,
        eval_prompts: after_training.map_or(0, |evaluation| evaluation.prompts),
    };
    let showcase = job.showcase()?;
    let data = ReportData {
        title: config.name.clone(),
        summary: summary.clone(),
        evaluations,
        kl_by_position_before: state.showcase_before.kl_by_position.clone(),
        kl_by_position_after: showcase.kl_by_position,
        samples_before: state.showcase_before.samples.clone(),
        samples_after: showcase.samples,
        config: to_toml(config, &job.dir)?,
        environment: environment(job),
    };
    report::write(job.dir.path(), &data)?;
    summary.write(job.dir.path())?;
    Ok(summary)
}

/// Writes a directory aside and renames it, over one that an earlier attempt left.
fn save_aside(job: &Job, to: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let aside = job.dir.path().join(".tmp-model");
    let io = |source| RunError::writing(to, source);
    for dir in [aside.as_path(), to] {
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(io)?;
        }
    }
    write(&aside)?;
    fs::rename(&aside, to).map_err(io)?;
    Ok(())
}

fn environment(job: &Job) -> Vec<(String, String)> {
    let student = &job.trainer.student;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    [
        ("opd", env!("CARGO_PKG_VERSION").to_owned()),
        ("device", format!("{:?}", student.device().location())),
        ("processors", threads.to_string()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("student", format!("{} parameters", student.parameters().n_values())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
