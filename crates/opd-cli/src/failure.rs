use std::process::ExitCode;

use opd_train::run::Error as RunError;

/// An error that decides the exit code; all others end with 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Bad usage or configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The user asked to leave: exit code 130.
    #[error("{0}")]
    Interrupted(String),
}

impl Failure {
    /// Bad usage or configuration, as an error to return.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self::Usage(message.into()).into()
    }

    /// Prints an error with all its causes, one on a line, and chooses the exit code.
    pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
        if let Some(Self::Interrupted(message)) = error.downcast_ref() {
            eprintln!("interrupted: {message}");
            return ExitCode::from(130);
        }
        let mut said = String::new();
        for (depth, cause) in error.chain().enumerate() {
            let text = one_line(&cause.to_string());
            if said.ends_with(&text) && depth > 0 {
                continue;
            }
            let label = if depth == 0 { "error" } else { "  caused by" };
            eprintln!("{label}: {text}");
            said = text;
        }
        ExitCode::from(if is_usage(error) { 2 } else { 1 })
    }
}

fn is_usage(error: &anyhow::Error) -> bool {
    let of_run =
        |error: &RunError| matches!(error, RunError::InUse { .. } | RunError::NotARun { .. });
    let of_train = |error: &opd_train::Error| match error {
        opd_train::Error::Config(_) => true,
        opd_train::Error::Run(error) => of_run(error),
        _ => false,
    };
    error.chain().any(|cause| {
        cause.is::<Failure>()
            || cause.downcast_ref().is_some_and(of_run)
            || cause.downcast_ref().is_some_and(of_train)
    })
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_message_stays_on_one_line() {
        assert_eq!(one_line("no such\n\n   file\n"), "no such file");
    }

    #[test]
    fn usage_is_told_from_failure() {
        let in_use = RunError::InUse { path: PathBuf::from("r"), entry: "a run".into() };
        let nested =
            opd_train::Error::Run(RunError::NotARun { path: "r".into(), reason: "".into() });
        let locked = RunError::Locked { path: PathBuf::from("r"), pid: None };
        assert!(is_usage(&in_use.into()));
        assert!(is_usage(&anyhow::Error::from(nested).context("while starting")));
        assert!(is_usage(&Failure::usage("no")));
        assert!(!is_usage(&locked.into()));
        assert!(!is_usage(&anyhow::anyhow!("disk on fire")));
    }
}
