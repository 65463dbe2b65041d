use candle_core::Device;
use opd_models::{CausalLm, Tokenizer};

use crate::{Error, Result, config::TrainConfig, student};

/// The start policy: the student before training, or the one that is named.
pub(crate) fn load(
    config: &TrainConfig,
    student: &CausalLm,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<CausalLm> {
    let Some(path) = &config.student.reference else {
        return student::start(config, student, device);
    };
    tokenizer.check_same(&Tokenizer::load(path)?)?;
    let reference = student::frozen(path, config, device)?;
    let (held, needed) = (reference.config().vocab_size, student.config().vocab_size);
    if held < needed {
        let what = format!("it has {held} token ids, and the student {needed}");
        return Err(Error::State { path: path.clone(), what });
    }
    Ok(reference)
}
