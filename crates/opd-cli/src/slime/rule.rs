//! What is said of flags without a counterpart here.

use crate::slime::line::Given;

/// What a flag without a counterpart comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Leaving it out changes nothing that is trained; why.
    NotNeeded(&'static str),
    /// Leaving it out would train something else; why, and what to do.
    Refused(&'static str),
}

/// Names, a prefix where they end in `*`, that share an answer.
pub(super) struct Rule {
    pub(super) names: &'static [&'static str],
    when: When,
    why: &'static str,
}

enum When {
    /// Not needed, whatever its values are.
    NotNeeded,
    /// Not needed if it has one of these values.
    Only(&'static [&'static str]),
    /// Refused.
    Refused,
}

pub(super) const fn not_needed(names: &'static [&'static str], why: &'static str) -> Rule {
    Rule { names, when: When::NotNeeded, why }
}

pub(super) const fn only(
    names: &'static [&'static str],
    values: &'static [&'static str],
    why: &'static str,
) -> Rule {
    Rule { names, when: When::Only(values), why }
}

pub(super) const fn refused(names: &'static [&'static str], why: &'static str) -> Rule {
    Rule { names, when: When::Refused, why }
}

impl Rule {
    /// Whether it is about a flag.
    pub(super) fn covers(&self, given: &Given) -> bool {
        let of = |name: &&str| match name.split_once('*') {
            Some((before, after)) => given.name.starts_with(before) && given.name.ends_with(after),
            None => given.name == **name,
        };
        self.names.iter().any(of)
    }

    /// What it says of a flag that it covers.
    pub(super) fn answer(&self, given: &Given) -> Answer {
        let fits = match self.when {
            When::NotNeeded => true,
            When::Only(values) => {
                matches!(given.values.as_slice(), [value] if values.contains(&value.as_str()))
            }
            When::Refused => false,
        };
        if fits { Answer::NotNeeded(self.why) } else { Answer::Refused(self.why) }
    }
}
