use std::collections::BTreeMap;

use crate::{Answer, Result, Reward};

/// The words that a response and the label share: from 0 to 1.
///
/// Both are put into lower case, and lose ASCII punctuation and the words `a`, `an` and `the`.
/// Each common word counts as often as the side that has it less often. A `yes`, `no` or
/// `noanswer` is right only as a whole.
///
/// ```text
/// precision = common / words of the response,  recall = common / words of the label
/// reward = 2 precision recall / (precision + recall), 0 without a common word
/// ```
///
/// Source: Rajpurkar et al. 2016, <https://arxiv.org/abs/1606.05250>; slime's `--rm-type f1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenF1;

impl Reward for TokenF1 {
    fn reward(&self, answer: &Answer<'_>) -> Result<f32> {
        let Some(label) = answer.label else { return Ok(0.0) };
        let (given, right) = (words(answer.response), words(label));
        let closed = |words: &[String]| matches!(words, [word] if ["yes", "no", "noanswer"].contains(&word.as_str()));
        if (closed(&given) || closed(&right)) && given != right {
            return Ok(0.0);
        }
        let common = common(&given, &right) as f32;
        Ok(match common {
            0.0 => 0.0,
            // 2 p r / (p + r), with both fractions cleared.
            _ => 2.0 * common / (given.len() + right.len()) as f32,
        })
    }
}

fn words(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = text.split_whitespace().filter(|word| !["a", "an", "the"].contains(word));
    words.map(str::to_owned).collect()
}

fn common(one: &[String], other: &[String]) -> usize {
    let mut left = BTreeMap::<&str, usize>::new();
    for word in one {
        *left.entry(word).or_default() += 1;
    }
    let mut taken = 0;
    for word in other {
        if let Some(n) = left.get_mut(word.as_str()).filter(|n| **n > 0) {
            *n -= 1;
            taken += 1;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are `f1_score(response, label)[0]` of slime's `rm_hub/f1.py` (commit
    /// 624b824a8), run once on these pairs.
    #[test]
    fn it_is_the_f1_of_words() {
        let cases = [
            ("The cat sat.", "a cat sat", 1.0),
            ("the cat sat on the mat", "cat mat dog", 0.5714285714285715),
            ("yes, it is", "yes", 0.0),
            ("Yes!", "yes", 1.0),
            ("no", "No one", 0.0),
            ("", "word", 0.0),
            ("red red blue", "red blue blue", 0.6666666666666666),
            ("42", "43", 0.0),
            ("New-York city", "new york city", 0.4),
            ("noanswer", "noanswer", 1.0),
        ];
        for (response, label, expected) in cases {
            let answer = Answer { response, label: Some(label), ..Answer::default() };
            let got = TokenF1.reward(&answer).unwrap();
            assert!((f64::from(got) - expected).abs() < 1e-6, "{response} / {label}: {got}");
        }
        let unlabelled = Answer { response: "x", ..Answer::default() };
        assert_eq!(TokenF1.reward(&unlabelled).unwrap(), 0.0);
    }
}
