use candle_core::{Result, Var};
use opd_kernels::{
    Divergence, Projection, linear_divergence, linear_divergence_loss, linear_row_loss,
    linear_token_logprobs,
};

use super::{Clock, Floor, Sizes};
use crate::{
    memory::bytes,
    numbers::{ids, normal},
};

pub(super) fn all(clock: &Clock<'_>, Sizes { rows, vocab, width }: Sizes) -> Result<()> {
    let device = clock.device;
    let targets = ids(rows, vocab)?.to_device(device)?;
    let scale = 3.0 / (width as f32).sqrt();
    let hidden = Var::from_tensor(&normal(device, &[rows, width], 1.0)?)?;
    let head = Var::from_tensor(&normal(device, &[vocab, width], scale)?)?;
    let gradients = bytes(&[hidden.as_tensor().clone(), head.as_tensor().clone()]);
    let products = |n: f64| Floor::flops(n * 2.0 * rows as f64 * vocab as f64 * width as f64);
    clock.time("linear_token_logprobs forward", products(1.0).goal(14.2), 0, || {
        let (hidden, head) = (hidden.as_detached_tensor(), head.as_detached_tensor());
        linear_token_logprobs(&hidden, &head, &targets, 1.0)?;
        Ok(())
    })?;
    let known = Floor { goal_gib: Some(5.5), ..products(3.0).goal(50.0) };
    let name = "linear log-probs, all gradients, known by row (linear_row_loss)";
    clock.time(name, known, gradients, || {
        linear_row_loss(&hidden, &head, &targets, 1.0, |_, row| row.logprobs.sum_all())?;
        Ok(())
    })?;
    let name = "linear log-probs, all gradients, general form (linear_token_logprobs)";
    clock.time(name, products(4.0).goal(58.0), gradients, || {
        let out = linear_token_logprobs(&hidden, &head, &targets, 1.0)?;
        out.logprobs.sum_all()?.backward()?;
        Ok(())
    })?;
    let their_hidden = normal(device, &[rows, width], 1.0)?;
    let their_head = normal(device, &[vocab, width], scale)?;
    let student = Projection::new(&hidden, &head);
    let teacher = Projection::new(&their_hidden, &their_head);
    let kind = Divergence::ReverseKl;
    let name = "linear reverse KL, all gradients, known by row (linear_divergence_loss)";
    clock.time(name, products(4.0), gradients, || {
        linear_divergence_loss(student, teacher, &targets, kind, 1.0, |_, tokens| {
            tokens.divergence.sum_all()
        })?;
        Ok(())
    })?;
    let name = "linear reverse KL, all gradients, general form (linear_divergence)";
    clock.time(name, products(6.0), gradients, || {
        let out = linear_divergence(student, teacher, &targets, kind, 1.0)?;
        out.divergence.sum_all()?.backward()?;
        Ok(())
    })
}
