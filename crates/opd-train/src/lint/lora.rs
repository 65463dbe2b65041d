//! Adapters.

use super::Said;
use crate::config::TrainConfig;

/// Below this a learning rate is one for all weights.
const LOW: f64 = 1e-5;

pub(super) fn learning_rate(config: &TrainConfig) -> Option<Said> {
    let lr = config.optimizer.lr;
    (config.student.lora.is_some() && lr < LOW).then(|| {
        let reason = format!(
            "lr {lr:e} with adapters: that is a rate for all weights, and moves the model less \
             through two small factors"
        );
        (reason, "adapters learn best at about ten times the rate; try --lr 1e-4")
    })
}
