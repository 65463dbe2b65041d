use candle_core::Result;
use opd_kernels::{Divergence, Projection, divergence, linear_divergence, linear_total_variation};

use crate::{
    Case, Size, Work,
    linear::model,
    numbers::{ids, tensor, variable},
};

const JSD: Divergence = Divergence::Jsd { beta: 0.5 };

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "reverse_kl/train",
        bytes: from_logits,
        prepare: |size| logits(size, Divergence::ReverseKl),
    },
    Case {
        name: "forward_kl/train",
        bytes: from_logits,
        prepare: |size| logits(size, Divergence::ForwardKl),
    },
    Case { name: "jsd/train", bytes: from_logits, prepare: |size| logits(size, JSD) },
    Case {
        name: "linear_reverse_kl/train",
        bytes: from_heads,
        prepare: |size| linear(size, Some(Divergence::ReverseKl)),
    },
    Case {
        name: "linear_forward_kl/train",
        bytes: from_heads,
        prepare: |size| linear(size, Some(Divergence::ForwardKl)),
    },
    Case { name: "linear_jsd/train", bytes: from_heads, prepare: |size| linear(size, Some(JSD)) },
    Case {
        name: "linear_total_variation/train",
        bytes: from_heads,
        prepare: |size| linear(size, None),
    },
];

/// Both models' logits forward and again backward, and the gradient.
fn from_logits(size: &Size) -> usize {
    5 * size.logits_bytes()
}

/// Both models' operands, and the student's gradients.
fn from_heads(size: &Size) -> usize {
    3 * (size.hidden_bytes() + size.head_bytes())
}

fn logits(size: &Size, kind: Divergence) -> Result<Work> {
    let dims = [size.tokens(), size.vocab];
    let (student, teacher) = (variable(&dims, 1, 5.0)?, tensor(&dims, 2, 5.0)?);
    let ids = ids(size, 1)?;
    Ok(Box::new(move || {
        let out = divergence(&student, &teacher, &ids, kind, 1.0)?;
        out.divergence.sum_all()?.backward().map(drop)
    }))
}

/// `None` stands for total variation.
fn linear(size: &Size, kind: Option<Divergence>) -> Result<Work> {
    let ((hidden, head), theirs, ids) = (model(size, 1)?, model(size, 3)?, ids(size, 1)?);
    let theirs = (theirs.0.into_inner().detach(), theirs.1.into_inner().detach());
    Ok(Box::new(move || {
        let student = Projection::new(&hidden, &head);
        let teacher = Projection::new(&theirs.0, &theirs.1);
        let out = match kind {
            Some(kind) => linear_divergence(student, teacher, &ids, kind, 1.0)?,
            None => linear_total_variation(student, teacher, &ids, 1.0)?,
        };
        out.divergence.sum_all()?.backward().map(drop)
    }))
}
