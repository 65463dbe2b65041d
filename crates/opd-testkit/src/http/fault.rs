use std::time::Duration;

use serde_json::{Value, json};

use super::Reply;

/// What may become of the answer to a scoring request, of SGLang or of vLLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A short delay.
    Late,
    /// A delay of half a second.
    VeryLate,
    /// The connection is closed without a word.
    Drop,
    /// The queue is full.
    Unavailable,
    /// An error of the server.
    Internal,
    /// The connection is closed in the middle of the body.
    Torn,
    /// Half of the body, announced as the whole.
    Halved,
    /// A body byte by byte, which never ends.
    SlowLoris,
    /// A page of a gateway.
    NotJson,
    /// NaN, which JSON does not have.
    NaN,
    /// Answers in another order than asked; two of them where one is due.
    Reordered,
    /// One log-prob too few.
    TooFew,
    /// One log-prob too many.
    TooMany,
    /// A log-prob that is null.
    Null,
    /// The sent id is not among those that are scored.
    OtherId,
    /// A likeliest id whose log-prob is null, else [`Self::Null`].
    NullAmongLikeliest,
    /// A position without likeliest ids, else [`Self::TooFew`].
    NoLikeliest,
    /// The sequence was aborted.
    Aborted,
}

impl Fault {
    /// One of each kind.
    pub const ALL: [Self; 18] = [
        Self::Late,
        Self::VeryLate,
        Self::Drop,
        Self::Unavailable,
        Self::Internal,
        Self::Torn,
        Self::Halved,
        Self::SlowLoris,
        Self::NotJson,
        Self::NaN,
        Self::Reordered,
        Self::TooFew,
        Self::TooMany,
        Self::Null,
        Self::OtherId,
        Self::NullAmongLikeliest,
        Self::NoLikeliest,
        Self::Aborted,
    ];

    /// In about three cases of ten a fault, each kind as often as another, by a number.
    pub fn in_three_of_ten(number: u64) -> Option<Self> {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        (mixed % 100 < 30).then(|| Self::ALL[(mixed / 100) as usize % Self::ALL.len()])
    }

    /// Whether the answer still comes, whole and right, to a client that waits for it.
    pub fn only_delays(self) -> bool {
        matches!(self, Self::Late | Self::VeryLate)
    }

    /// Spoils a good answer.
    ///
    /// # Panics
    ///
    /// If it is no answer to a scoring request.
    pub fn spoil(self, good: &Value) -> Reply {
        let text = good.to_string();
        let half = text.len() / 2;
        match self {
            Self::Late => Reply::Late(Duration::from_millis(20), Box::new(Reply::json(text))),
            Self::VeryLate => Reply::Late(Duration::from_millis(500), Box::new(Reply::json(text))),
            Self::Drop => Reply::Drop,
            Self::Unavailable => {
                let said = r#"{"object": "error", "message": "The request queue is full."}"#;
                Reply::status(503, said)
            }
            Self::Internal => Reply::status(500, "Internal Server Error"),
            Self::Torn => Reply::Torn { sent: half, body: text.into_bytes() },
            Self::Halved => Reply::json(&text.as_bytes()[..half]),
            Self::SlowLoris => Reply::Trickle { pause: Duration::from_millis(20), bytes: 40 },
            Self::NotJson => Reply::json("<html>gateway</html>"),
            Self::NaN => Reply::json(text.replacen("-", "NaN, \"was\": -", 1)),
            Self::Reordered => Reply::json(reordered(good.clone()).to_string()),
            _ => Reply::json(self.spoiled(good.clone()).to_string()),
        }
    }

    /// With one sequence's answer spoilt.
    fn spoiled(self, mut answer: Value) -> Value {
        let sglang = answer.get("choices").is_none();
        let item = match (sglang, answer.is_array()) {
            (true, true) => &mut answer[0],
            (true, false) => &mut answer,
            (false, _) => &mut answer["choices"][0],
        };
        if self == Self::Aborted {
            match sglang {
                true => item["meta_info"]["finish_reason"] = json!({ "type": "abort" }),
                false => item["finish_reason"] = "abort".into(),
            }
            return answer;
        }
        let place = if sglang { "/meta_info/input_token_logprobs" } else { "/prompt_logprobs" };
        let tops = item.pointer_mut("/meta_info/input_top_logprobs").and_then(Value::as_array_mut);
        if let (Self::NullAmongLikeliest | Self::NoLikeliest, Some(last)) =
            (self, tops.and_then(|lists| lists.last_mut()))
        {
            match self {
                Self::NoLikeliest => *last = Value::Null,
                _ => last[0][0] = Value::Null,
            }
            return answer;
        }
        let values = item.pointer_mut(place).unwrap().as_array_mut().unwrap();
        let last = values.len() - 1;
        match self {
            Self::TooFew | Self::NoLikeliest => drop(values.pop()),
            Self::TooMany => values.push(values[last].clone()),
            Self::OtherId if sglang => values[last][1] = 999_999.into(),
            Self::OtherId => values[last] = json!({ "999999": { "logprob": -1.0 } }),
            _ if sglang => values[last][0] = Value::Null,
            _ => {
                for entry in values[last].as_object_mut().unwrap().values_mut() {
                    entry["logprob"] = Value::Null;
                }
            }
        }
        answer
    }
}

/// In another order than asked.
fn reordered(mut answer: Value) -> Value {
    let sglang = answer.get("choices").is_none();
    let items = if sglang { &mut answer } else { &mut answer["choices"] };
    match items.as_array_mut() {
        Some(items) if items.len() > 1 => {
            items.reverse();
            if !sglang {
                for (index, item) in items.iter_mut().enumerate() {
                    item["index"] = index.into();
                }
            }
            answer
        }
        _ => json!([answer.clone(), answer]),
    }
}
