use regex::{Regex, RegexBuilder};

use crate::{Answer, Error, Result, Reward};

/// Bytes that a compiled pattern may take.
const SIZE: usize = 1 << 20;

/// Group of a pattern that is compared with the label.
const GROUP: &str = "answer";

/// 1 if a response matches a regular expression; else 0.
///
/// With a group `(?<answer>..)`, what the last match holds there must be the label, surrounding
/// white space aside. Matching takes time in proportion to the response, whatever the pattern.
///
/// ```
/// use opd_reward::{Answer, Pattern, Reward};
///
/// let pattern = Pattern::new(r"(?i)answer:\s*(?<answer>\w+)")?;
/// let answer = Answer { response: "Answer: B, no. Answer: C", label: Some("C"), ..Answer::default() };
/// assert_eq!(pattern.reward(&answer)?, 1.0);
/// # Ok::<(), opd_reward::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    compared: bool,
}

impl Pattern {
    /// Compiles a pattern in the syntax of the `regex` crate.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`].
    pub fn new(pattern: &str) -> Result<Self> {
        let regex = RegexBuilder::new(pattern).size_limit(SIZE).build().map_err(|error| {
            Error::Pattern { pattern: pattern.to_owned(), what: error.to_string() }
        })?;
        let compared = regex.capture_names().flatten().any(|name| name == GROUP);
        Ok(Self { regex, compared })
    }
}

impl Reward for Pattern {
    fn reward(&self, answer: &Answer<'_>) -> Result<f32> {
        let right = match self.compared {
            false => self.regex.is_match(answer.response),
            true => {
                let found = self.regex.captures_iter(answer.response).last();
                let given = found.as_ref().and_then(|groups| groups.name(GROUP));
                let given = given.map(|group| group.as_str().trim());
                given.is_some() && given == answer.label.map(str::trim)
            }
        };
        Ok(f32::from(u8::from(right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, response: &str, label: Option<&str>) -> f32 {
        let answer = Answer { response, label, ..Answer::default() };
        Pattern::new(pattern).unwrap().reward(&answer).unwrap()
    }

    #[test]
    fn without_the_group_a_match_is_right() {
        assert_eq!(of("^<think>.*</think>", "<think>x</think> 4", None), 1.0);
        assert_eq!(of("^<think>.*</think>", "4", Some("4")), 0.0);
    }

    #[test]
    fn with_the_group_the_last_match_is_the_label() {
        let pattern = "= *(?<answer>[0-9]+)";
        assert_eq!(of(pattern, "1+1= 3, =2", Some(" 2")), 1.0);
        assert_eq!(of(pattern, "1+1= 2, =3", Some("2")), 0.0);
        assert_eq!(of(pattern, "two", Some("2")), 0.0);
        assert_eq!(of(pattern, "=2", None), 0.0);
    }

    #[test]
    fn a_bad_or_huge_pattern_is_named() {
        for pattern in ["(", "(?:a{1000}){1000}"] {
            let error = Pattern::new(pattern).unwrap_err().to_string();
            assert!(error.contains("is no regular expression: "), "{error}");
        }
    }
}
