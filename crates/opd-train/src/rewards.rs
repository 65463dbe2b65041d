//! From a rule's name to the judge of responses.

use opd_data::Example;
use opd_http::{ApiKey, Settings};
use opd_reward::{
    Answer, AnswerForm, ExactMatch, MathAnswer, Pattern, RemoteReward, Reward, TokenF1,
};

use crate::{
    Result,
    config::{RewardConfig, RewardKind},
};

impl RewardConfig {
    /// The judge that is named; `seed` fixes the random part of a client's delays.
    ///
    /// # Errors
    ///
    /// A malformed pattern or address, or a key that cannot be read.
    pub fn build(&self, seed: u64) -> Result<Box<dyn Reward>> {
        let Self { kind, pattern, urls, api_key_env, api_key_file } = self;
        let math = |form, wrong| Box::new(MathAnswer { form, wrong });
        Ok(match kind {
            RewardKind::ExactMatch => Box::new(ExactMatch),
            RewardKind::F1 => Box::new(TokenF1),
            RewardKind::Math => math(AnswerForm::Boxed, 0.0),
            RewardKind::Deepscaler => math(AnswerForm::BoxedAfterThinking, 0.0),
            RewardKind::Dapo => math(AnswerForm::AnswerLine, -1.0),
            RewardKind::Gsm8k => math(AnswerForm::Hashes, 0.0),
            RewardKind::Regex => Box::new(Pattern::new(pattern.as_deref().unwrap_or_default())?),
            RewardKind::RemoteRm => {
                let key = ApiKey::named(api_key_env.as_deref(), api_key_file.as_deref())?;
                let settings = Settings { key, seed, ..Settings::default() };
                Box::new(RemoteReward::new(urls, settings)?)
            }
        })
    }
}

/// A response to an example, as it is judged.
pub(crate) fn answer<'a>(example: &'a Example, response: &'a str) -> Answer<'a> {
    Answer {
        prompt: &example.prompt,
        response,
        label: example.label.as_deref(),
        source: example.source.as_str(),
    }
}
