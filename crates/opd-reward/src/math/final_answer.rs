use super::token::closing;

/// Where a response names its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerForm {
    /// In the last `\boxed{..}`.
    #[default]
    Boxed,
    /// The same, behind the last `</think>` or `###Response`; without either there is none.
    BoxedAfterThinking,
    /// Behind the last `Answer:`, up to the end of its line, within the last 300 characters; a
    /// `\boxed{..}` there counts for what it holds.
    AnswerLine,
    /// Behind the last `####`, up to the end of its line.
    Hashes,
}

/// What DAPO's rule reads of a response.
const TAIL: usize = 300;

impl AnswerForm {
    /// The answer that `response` names, if it does.
    pub fn find(self, response: &str) -> Option<&str> {
        match self {
            Self::Boxed => boxed(response),
            Self::BoxedAfterThinking => {
                let mark = ["</think>", "###Response"]
                    .into_iter()
                    .find_map(|mark| Some((response.rfind(mark)?, mark.len())));
                let (at, length) = mark?;
                boxed(&response[at + length..])
            }
            Self::AnswerLine => answer_line(response),
            Self::Hashes => hashes(response),
        }
    }
}

/// The answer of a label, which may be boxed or stand behind `####`.
pub(super) fn of_label(label: &str) -> &str {
    boxed(label).or_else(|| hashes(label)).unwrap_or(label).trim()
}

/// What the last `\boxed{..}` or `\fbox{..}` of a text holds; brackets within may be nested.
///
/// ```
/// use opd_reward::boxed;
///
/// assert_eq!(boxed(r"So \boxed{1}, no: \boxed{\frac{1}{2}}."), Some(r"\frac{1}{2}"));
/// assert_eq!(boxed(r"\boxed{cut of"), None);
/// ```
pub fn boxed(text: &str) -> Option<&str> {
    let (at, name) = ["\\boxed", "\\fbox"]
        .into_iter()
        .filter_map(|name| Some((text.rfind(name)?, name)))
        .max_by_key(|(at, _)| *at)?;
    let behind = &text[at + name.len()..];
    let inner = behind.trim_start();
    if !inner.starts_with('{') {
        // `\boxed 5`
        let word = inner.split(['$', ' ', '\n']).next().filter(|word| !word.is_empty())?;
        return behind.starts_with(' ').then_some(word);
    }
    let chars: Vec<char> = inner.chars().collect();
    let end = closing(&chars, 0)?;
    let bytes: usize = chars[..end].iter().map(|c| c.len_utf8()).sum();
    Some(inner[1..bytes].trim())
}

fn answer_line(response: &str) -> Option<&str> {
    let start = response.char_indices().rev().nth(TAIL - 1).map_or(0, |(at, _)| at);
    let tail = &response[start..];
    // ASCII letters keep their places.
    let lower = tail.to_ascii_lowercase();
    let mut end = lower.len();
    while let Some(at) = lower[..end].rfind("answer") {
        let behind = tail[at + "answer".len()..].trim_start_matches([' ', '*', '\t']);
        if let Some(answer) = behind.strip_prefix(':') {
            let line = answer.trim_start_matches(['*', ' ', '\t']);
            let line = line.lines().next().unwrap_or_default();
            let line = line.trim().trim_matches(|c| c == '*' || c == ' ');
            return boxed(line).or(Some(line)).filter(|line| !line.is_empty());
        }
        end = at;
    }
    None
}

fn hashes(text: &str) -> Option<&str> {
    let at = text.rfind("####")? + "####".len();
    let line = text[at..].lines().next()?.trim();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_finds_its_answer() {
        let cases = [
            (AnswerForm::Boxed, "so $\\boxed{ 4 }$ is it", Some("4")),
            (AnswerForm::Boxed, "\\boxed{\\text{a}_{1}} and \\fbox{b{c}}", Some("b{c}")),
            (AnswerForm::Boxed, "\\boxed 7$", Some("7")),
            (AnswerForm::Boxed, "no box: 4", None),
            (AnswerForm::Boxed, "\\boxed{4", None),
            (AnswerForm::BoxedAfterThinking, "\\boxed{1}</think> \\boxed{2}", Some("2")),
            (AnswerForm::BoxedAfterThinking, "\\boxed{1}</think> two", None),
            (AnswerForm::BoxedAfterThinking, "\\boxed{1}", None),
            (AnswerForm::AnswerLine, "Answer: 1\nno.\n**Answer:** $34$\n", Some("$34$")),
            (AnswerForm::AnswerLine, "The answer is 34. ANSWER : \\boxed{34}.", Some("34")),
            (AnswerForm::AnswerLine, "the answer is 34", None),
            (AnswerForm::Hashes, "9*2\n#### 18\n", Some("18")),
            (AnswerForm::Hashes, "#### 18\n####", None),
            (AnswerForm::Hashes, "18", None),
        ];
        for (form, response, expected) in cases {
            assert_eq!(form.find(response), expected, "{form:?} {response:?}");
        }
        let far = format!("Answer: 3{}", " é".repeat(TAIL));
        assert_eq!(AnswerForm::AnswerLine.find(&far), None);
    }

    #[test]
    fn labels_say_their_answer_in_three_ways() {
        for label in ["18", " 18 ", "9 * 2 = 18\n#### 18", "so \\boxed{18}"] {
            assert_eq!(of_label(label), "18");
        }
    }
}
