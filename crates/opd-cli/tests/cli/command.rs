use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// A directory to run `opd` in.
pub(crate) struct Workplace(TempDir);

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A directory that passes for a model's as long as it is not loaded.
    pub(crate) fn model_stub(&self, name: &str) -> String {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), "{}").unwrap();
        dir.display().to_string()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opd"));
        command.current_dir(self.dir()).stdin(Stdio::null());
        command
    }

    pub(crate) fn opd<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command().args(args))
    }

    /// Runs a line of words without spaces in them, with these variables.
    pub(crate) fn line_with(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command();
        command.args(line.split_whitespace()).envs(variables.iter().copied());
        Ran::of(&mut command)
    }

    /// Runs a line of words without spaces in them.
    pub(crate) fn line(&self, line: &str) -> Ran {
        self.opd(line.split_whitespace())
    }

    /// Names in the workplace, hidden ones included.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { code: output.status.code(), stdout, stderr }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Ended with this code, saying all of this, in this order.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let mut rest = self.stderr.as_str();
        for part in parts {
            let found = rest.find(part);
            let Some(start) = found else { panic!("no {part:?} in its place in {self:?}") };
            rest = &rest[start + part.len()..];
        }
        self
    }
}

/// The records of a JSONL file.
#[track_caller]
pub(crate) fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A field that is a list of numbers.
#[track_caller]
pub(crate) fn numbers(record: &Value, field: &str) -> Vec<f64> {
    let list = record[field].as_array().unwrap_or_else(|| panic!("no {field} in {record}"));
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}
