use std::fmt::Write;

use opd_train::lint::{Finding, lint as check};

use crate::{failure::Failure, flags::TrainArgs, records, train};

/// Says what the settings train, and everything that can be said against them.
pub(crate) fn lint(args: &TrainArgs) -> anyhow::Result<()> {
    if args.run.resume.is_some() {
        return Err(Failure::usage(
            "--resume with `opd lint`: give the run's settings with --config DIR/config.toml",
        ));
    }
    let config = train::settings(args)?;
    let found = check(&config);
    let mut text = "the expected gradient is of\n".to_owned();
    // Writing to a `String` cannot fail.
    for term in &found.gradient {
        let _ = writeln!(text, "  {term}");
    }
    for finding in found.refusals() {
        let _ = writeln!(text, "refused: {}", sentence(finding));
    }
    for finding in found.warnings() {
        let _ = writeln!(text, "warning: {}", sentence(finding));
    }
    if found.findings.is_empty() {
        text.push_str("no findings\n");
    }
    records::print(&text)?;
    train::validate(&config)
}

/// `[k3-as-loss] reason; remedy`.
fn sentence(finding: &Finding) -> String {
    format!("[{}] {}; {}", finding.rule, finding.reason, finding.remedy)
}

/// Prints the warnings of a run that is about to start.
pub(crate) fn warn(config: &opd_train::config::TrainConfig) {
    for finding in check(config).warnings() {
        eprintln!("warning: {}", sentence(finding));
    }
}
