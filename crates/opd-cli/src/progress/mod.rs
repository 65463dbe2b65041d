//! What `opd train` shows while it works: bars on a terminal, lines in a pipe, or nothing.

mod bars;
mod lines;
mod notes;

use std::{
    cell::Cell,
    io::{self, IsTerminal},
};

use opd_train::{Event, Observer, report::Who};

pub(crate) use self::bars::bar;
use self::{bars::Bars, lines::Lines};
use crate::interrupt;

/// Follows a job; Ctrl-C makes it leave.
pub(crate) struct Progress {
    screen: Screen,
    told: Cell<bool>,
}

enum Screen {
    Bars(Bars),
    Lines(Lines),
    Nothing,
}

impl Progress {
    /// On stderr, by what it is.
    pub(crate) fn new(quiet: bool) -> Self {
        let screen = match quiet {
            true => Screen::Nothing,
            false if io::stderr().is_terminal() => Screen::Bars(Bars::new()),
            false => Screen::Lines(Lines::new()),
        };
        Self { screen, told: Cell::new(false) }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&mut self) {
        if let Screen::Bars(bars) = &mut self.screen {
            bars.clear();
        }
    }

    fn say(&self, line: &str) {
        match &self.screen {
            Screen::Bars(bars) => bars.say(line),
            Screen::Lines(_) => eprintln!("{line}"),
            Screen::Nothing => {}
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: Event<'_>) {
        if let Some(note) = notes::note(&event) {
            self.say(&note);
        }
        match &mut self.screen {
            Screen::Bars(bars) => bars.event(event),
            Screen::Lines(lines) => {
                if let Some(line) = lines.event(event) {
                    eprintln!("{line}");
                }
            }
            Screen::Nothing => {}
        }
    }

    fn interrupted(&self) -> bool {
        let pressed = interrupt::pressed();
        if pressed && !self.told.replace(true) {
            self.say("interrupted: saving what is done; press Ctrl-C again to leave at once");
        }
        pressed
    }
}

/// Whose evaluation, as rows of the table are called.
fn name(who: Who) -> &'static str {
    match who {
        Who::Before => "student before",
        Who::After => "student after",
        Who::Teacher => "teacher",
    }
}
