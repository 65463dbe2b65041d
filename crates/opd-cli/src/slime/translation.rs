use crate::{
    failure::Failure,
    slime::line::{Given, Line},
};

/// The words of our own command line as they come together.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) words: Vec<String>,
    /// Whether the line is one of slime's, which always have --num-rollout or --num-epoch.
    pub(super) is_slimes: bool,
    notes: Vec<String>,
    /// Flags by the reason why they are not needed.
    not_needed: Vec<(&'static str, Vec<String>)>,
}

impl Translation {
    pub(super) fn new(line: &Line) -> Self {
        let begins = !line.has("config") && !line.has("resume") && !line.has("steps");
        let is_slimes = begins && (line.has("num-rollout") || line.has("num-epoch"));
        let mut this =
            Self { words: Vec::new(), is_slimes, notes: Vec::new(), not_needed: Vec::new() };
        if is_slimes && !line.has("defaults") {
            this.flag("defaults", "slime");
            this.note(
                "this is a command line of slime's: what it does not say is as slime and Megatron \
                 have it (--defaults slime); docs/from-slime.md has the whole translation",
            );
        }
        this
    }

    /// One of our flags with a value.
    pub(super) fn flag(&mut self, name: &str, value: impl ToString) {
        self.words.extend([format!("--{name}"), value.to_string()]);
    }

    /// One of our switches.
    pub(super) fn switch(&mut self, name: &str) {
        self.words.push(format!("--{name}"));
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says that a flag has no counterpart, and why none is needed.
    pub(super) fn not_needed(&mut self, name: &str, why: &'static str) {
        let flag = format!("--{name}");
        match self.not_needed.iter_mut().find(|(held, _)| *held == why) {
            Some((_, flags)) if flags.contains(&flag) => {}
            Some((_, flags)) => flags.push(flag),
            None => self.not_needed.push((why, vec![flag])),
        }
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        let not_needed = self.not_needed.into_iter();
        let not_needed = not_needed.map(|(why, flags)| format!("{}: {why}", flags.join(", ")));
        self.notes.into_iter().chain(not_needed).collect()
    }
}

/// The one value of a flag, as a number.
pub(super) fn number<T: std::str::FromStr>(given: &Given) -> anyhow::Result<T> {
    match given.values.as_slice() {
        [value] => value.parse().map_err(|_| {
            Failure::usage(format!("{}: expected a number, got {value:?}", given.shown()))
        }),
        values => Err(Failure::usage(format!(
            "--{}: expected one number, got {} values",
            given.name,
            values.len()
        ))),
    }
}

/// The one value of a flag, as text.
pub(super) fn text(given: &Given) -> anyhow::Result<&str> {
    match given.values.as_slice() {
        [value] => Ok(value),
        values => Err(Failure::usage(format!(
            "--{}: expected one value, got {}",
            given.name,
            values.len()
        ))),
    }
}
