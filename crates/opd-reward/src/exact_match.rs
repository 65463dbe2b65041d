use crate::{Answer, Result, Reward};

/// 1 if the response is the label, surrounding white space aside; else 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactMatch;

impl Reward for ExactMatch {
    fn reward(&self, answer: &Answer<'_>) -> Result<f32> {
        Ok(match answer.label {
            Some(label) if label.trim() == answer.response.trim() => 1.0,
            _ => 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_is_ignored() {
        let of = |label, response| {
            ExactMatch.reward(&Answer { label, response, ..Answer::default() }).unwrap()
        };
        assert_eq!(of(Some("18"), " 18\n"), 1.0);
        assert_eq!(of(Some("18"), "1 8"), 0.0);
        assert_eq!(of(None, ""), 0.0);
    }
}
