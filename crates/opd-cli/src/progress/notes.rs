use opd_train::Event;

use crate::{
    number::{count, percent},
    progress::name,
};

/// The line that an event is worth on any screen.
pub(super) fn note(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Loaded { student, teacher, parameters, trained } => {
            let teacher = teacher.map_or(String::new(), |teacher| format!("\nteacher: {teacher}"));
            let adapters = match trained == parameters {
                true => String::new(),
                false => format!(", {} trained in adapters", count(*trained as u64)),
            };
            let parameters = count(*parameters as u64);
            Some(format!("student: {student} ({parameters} parameters{adapters}){teacher}"))
        }
        Event::Resumed { step } => Some(format!("going on after step {}", count(*step))),
        Event::Evaluated { who, evaluation } => {
            let [low, high] = evaluation.interval.map(percent);
            let pass = percent(evaluation.pass_at_1);
            let several = evaluation.pass_at_k.iter().map(|one| {
                let [low, high] = one.interval.map(percent);
                format!(", pass@{} {} ({low} to {high})", one.k, percent(one.rate))
            });
            let several: String = several.collect();
            Some(format!("{}: pass@1 {pass} ({low} to {high}){several}", name(*who)))
        }
        Event::Warning { message } => Some(format!("warning: {message}")),
        _ => None,
    }
}
