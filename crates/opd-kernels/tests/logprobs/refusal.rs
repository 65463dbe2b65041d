//! What is refused, and that the message says why.

use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    Divergence, Projection, divergence, linear_divergence, linear_token_logprobs, token_logprobs,
};

use super::{ids, matrix};

fn message<T: std::fmt::Debug>(result: opd_kernels::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn an_id_outside_the_vocabulary() {
    let logits = matrix(&[0.0; 8], 2, 4, DType::F32);
    let said = message(token_logprobs(&logits, &ids(&[3, 4]), 1.0));
    assert!(said.contains("token id 4 at position 1"), "{said}");
    assert!(said.contains("vocabulary of 4"), "{said}");
}

#[test]
fn ids_of_another_length_or_dtype() {
    let logits = matrix(&[0.0; 8], 2, 4, DType::F32);
    let said = message(token_logprobs(&logits, &ids(&[3]), 1.0));
    assert!(said.contains("ids") && said.contains("[2]"), "{said}");
    let wide = Tensor::zeros(2, DType::I64, &Device::Cpu).unwrap();
    assert!(message(token_logprobs(&logits, &wide, 1.0)).contains("u32"));
}

#[test]
fn temperatures_that_are_none() {
    let logits = matrix(&[0.0; 4], 1, 4, DType::F32);
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let said = message(token_logprobs(&logits, &ids(&[0]), temperature));
        assert!(said.contains("temperature"), "{said}");
    }
}

#[test]
fn other_dtypes() {
    let logits = Tensor::zeros((1, 4), DType::U8, &Device::Cpu).unwrap();
    let said = message(token_logprobs(&logits, &ids(&[0]), 1.0));
    assert!(said.contains("logits is U8") && said.contains("convert it to f32"), "{said}");
    let (hidden, head) = (matrix(&[0.0; 3], 1, 3, DType::F32), matrix(&[0.0; 6], 2, 3, DType::F64));
    let said = message(linear_token_logprobs(&hidden, &head, &ids(&[0]), 1.0));
    assert!(said.contains("head is F64"), "{said}");
}

#[test]
fn widths_and_vocabularies_that_do_not_fit() {
    let hidden = matrix(&[0.0; 3], 1, 3, DType::F32);
    let head = matrix(&[0.0; 8], 2, 4, DType::F32);
    let said = message(linear_token_logprobs(&hidden, &head, &ids(&[0]), 1.0));
    assert!(said.contains("[V, 3]") && said.contains("[2, 4]"), "{said}");
    let head = matrix(&[0.0; 6], 2, 3, DType::F32);
    let wide = matrix(&[0.0; 9], 3, 3, DType::F32);
    let student = Projection::new(&hidden, &head);
    let teacher = Projection::new(&hidden, &wide);
    let said = message(linear_divergence(student, teacher, &ids(&[0]), Divergence::ReverseKl, 1.0));
    assert!(said.contains("vocabulary of 2") && said.contains("[1, 3]"), "{said}");
}

#[test]
fn parameters_outside_their_range() {
    let logits = matrix(&[0.0; 4], 1, 4, DType::F32);
    let kinds = [
        Divergence::Jsd { beta: 1.1 },
        Divergence::Jsd { beta: f64::NAN },
        Divergence::SkewForwardKl { alpha: 1.0 },
        Divergence::SkewReverseKl { alpha: -0.1 },
    ];
    for kind in kinds {
        let said = message(divergence(&logits, &logits, &ids(&[0]), kind, 1.0));
        assert!(said.contains("alpha") || said.contains("beta"), "{said}");
    }
}
