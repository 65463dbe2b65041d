use std::collections::VecDeque;

/// A flag as it was given: argparse's `--some_flag=value` and `--some-flag a b` alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    /// Without dashes in front, and with dashes for underscores.
    pub(super) name: String,
    pub(super) values: Vec<String>,
    /// Whether its first value stood behind `=`.
    equals: bool,
}

impl Given {
    /// The flag's words again.
    pub(super) fn words(&self) -> Vec<String> {
        match (self.equals, self.values.split_first()) {
            (true, Some((first, rest))) => {
                let first = format!("--{}={first}", self.name);
                [first].into_iter().chain(rest.iter().cloned()).collect()
            }
            _ => [format!("--{}", self.name)].into_iter().chain(self.values.clone()).collect(),
        }
    }

    /// As messages show it.
    pub(super) fn shown(&self) -> String {
        self.words().join(" ")
    }
}

/// The flags of a command line, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    flags: Vec<Given>,
    /// Words before the first flag.
    before: usize,
}

impl Line {
    /// A word that starts with `--` is a flag; the words up to the next one are its values.
    pub(super) fn read(words: &[&str]) -> Self {
        let mut line = Self { flags: Vec::new(), before: 0 };
        for word in words {
            match (flag(word), line.flags.last_mut()) {
                (Some(given), _) => line.flags.push(given),
                (None, Some(last)) => last.values.push((*word).to_owned()),
                (None, None) => line.before += 1,
            }
        }
        line
    }

    /// Whether there is nothing before the first flag.
    pub(super) fn starts_with_flags(&self) -> bool {
        self.before == 0
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|given| given.name == name)
    }

    /// The last value of a flag that stays.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let given = self.flags.iter().rev().find(|given| given.name == name)?;
        given.values.last().map(String::as_str)
    }

    /// All values of a flag that stays, however often it is there.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let given = self.flags.iter().filter(|given| given.name == name);
        given.flat_map(|given| given.values.iter().cloned()).collect()
    }

    /// Takes a flag away, however often it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<Given> {
        let at = self.flags.iter().rposition(|given| given.name == name)?;
        let taken = self.flags[at].clone();
        self.flags.retain(|given| given.name != name);
        Some(taken)
    }

    /// Takes a switch away.
    pub(super) fn take_switch(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// Of a flag that is repeated the last counts, as argparse has it.
    pub(super) fn keep_last(&mut self) {
        let mut kept = VecDeque::<Given>::new();
        for given in self.flags.iter().rev() {
            if given.name == "rm-url" || kept.iter().all(|held| held.name != given.name) {
                kept.push_front(given.clone());
            }
        }
        self.flags = kept.into();
    }

    /// What nobody took.
    pub(super) fn rest(self) -> Vec<Given> {
        self.flags
    }
}

fn flag(word: &str) -> Option<Given> {
    let short = |word: &str| {
        let letters = word.strip_prefix('-').filter(|rest| rest.len() == 1)?;
        letters.chars().all(|c| c.is_ascii_alphabetic()).then(|| letters.to_owned())
    };
    if let Some(letter) = short(word) {
        let name = match letter.as_str() {
            "h" => "help",
            "V" => "version",
            other => other,
        };
        return Some(Given { name: name.to_owned(), values: Vec::new(), equals: false });
    }
    let word = word.strip_prefix("--")?;
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let equals = value.is_some();
    Some(Given { name: name.replace('_', "-"), values: value.into_iter().collect(), equals })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_take_the_words_up_to_the_next() {
        let line = Line::read(&["--a_b", "1", "2", "--c=-3", "--d", "-4", "--e", "-h"]);
        let given = |name: &str, values: &[&str], equals| Given {
            name: name.into(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            equals,
        };
        let expected = [
            given("a-b", &["1", "2"], false),
            given("c", &["-3"], true),
            given("d", &["-4"], false),
            given("e", &[], false),
            given("help", &[], false),
        ];
        assert_eq!(line.clone().rest(), expected);
        assert_eq!(line.rest()[1].words(), ["--c=-3"]);
        assert!(!Line::read(&["x", "--a"]).starts_with_flags());
    }

    #[test]
    fn of_a_repeated_flag_the_last_counts() {
        let mut line =
            Line::read(&["--a", "1", "--b", "--a", "2", "--rm-url", "x", "--rm-url", "y"]);
        assert_eq!(line.value("a"), Some("2"));
        line.keep_last();
        let names: Vec<String> = line.clone().rest().into_iter().map(|given| given.name).collect();
        assert_eq!(names, ["b", "a", "rm-url", "rm-url"]);
        assert_eq!(line.take("a").map(|given| given.values), Some(vec!["2".to_owned()]));
        assert!(!line.has("a"));
    }
}
