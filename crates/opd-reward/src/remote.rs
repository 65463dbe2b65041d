use futures_util::future::try_join_all;
use opd_http::{Client, Request, Settings, Verdict};
use serde::Serialize;
use serde_json::Value;

use crate::{Answer, Result, Reward};

/// Bytes of a server's answer to one response.
const LONGEST: usize = 1 << 20;

/// A server that judges, asked for all responses of a step side by side.
///
/// ```text
/// POST URL  {"prompt": "..", "response": "..", "label": ".." or null, "source": ".."}
/// answer    0.5  or  {"score": 0.5, ..}  or  {"reward": 0.5, ..}
/// ```
///
/// Failures are tried again as [`Settings`] says; an answer that is none of the three, or not
/// finite, ends the run.
///
/// Source: slime's `--rm-type remote_rm`, whose fields these are but for `source`.
#[derive(Clone, Debug)]
pub struct RemoteReward(Client);

#[derive(Serialize)]
struct Asked<'a> {
    prompt: &'a str,
    response: &'a str,
    label: Option<&'a str>,
    source: &'a str,
}

impl RemoteReward {
    /// The servers at `urls`, each the whole address that is posted to.
    ///
    /// # Errors
    ///
    /// [`Error::Server`](crate::Error::Server) for an address that is none.
    pub fn new<S: AsRef<str>>(urls: &[S], settings: Settings) -> Result<Self> {
        Ok(Self(Client::new(urls, settings)?))
    }
}

impl Reward for RemoteReward {
    fn reward(&self, answer: &Answer<'_>) -> Result<f32> {
        Ok(self.rewards(&[*answer])?.first().copied().unwrap_or_default())
    }

    fn rewards(&self, answers: &[Answer<'_>]) -> Result<Vec<f32>> {
        let sent = answers.iter().map(|answer| {
            let request = || Request::post("", body(answer)).with_longest_answer(LONGEST);
            self.0.send(None, request, judge)
        });
        let rewards = self.0.run(try_join_all(sent))?;
        Ok(rewards.into_iter().map(|answer| answer.value).collect())
    }
}

fn body(answer: &Answer<'_>) -> Vec<u8> {
    let Answer { prompt, response, label, source } = *answer;
    // Texts are always JSON.
    serde_json::to_vec(&Asked { prompt, response, label, source }).unwrap_or_default()
}

fn judge(body: &[u8]) -> Verdict<f32> {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return Verdict::Retry(format!("no JSON: {error}")),
    };
    let number = ["score", "reward"].into_iter().find_map(|name| value.get(name));
    let number = number.unwrap_or(&value);
    let number =
        number.as_f64().or_else(|| number.as_bool().map(|right| f64::from(u8::from(right))));
    match number.map(|number| number as f32).filter(|number| number.is_finite()) {
        Some(number) => Verdict::Accept(number),
        None => Verdict::Refuse(
            "expected a finite number, or an object with a number `score` or `reward`".to_owned(),
        ),
    }
}
