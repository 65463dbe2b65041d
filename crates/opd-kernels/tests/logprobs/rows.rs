use candle_core::{DType, Device, Tensor};
use opd_kernels::{RowQuery, linear_row_logprobs, linear_token_logprobs};

use crate::{matrix, numbers};

const ROWS: usize = 70;
const WIDTH: usize = 24;
const VOCAB: usize = 5000;

fn inputs() -> (Tensor, Tensor) {
    let hidden = matrix(&numbers(ROWS * WIDTH, 1, 1.0), ROWS, WIDTH, DType::F32);
    let head = matrix(&numbers(VOCAB * WIDTH, 2, 1.0), VOCAB, WIDTH, DType::F32);
    (hidden.as_detached_tensor(), head.as_detached_tensor())
}

#[test]
fn named_ids_have_the_bits_of_sampled_ones_each_row_at_its_temperature() {
    let (hidden, head) = inputs();
    let ids: Vec<u32> = (0..ROWS as u32).map(|t| t * 7919 % VOCAB as u32).collect();
    let temperatures = [1.0, 0.7, 2.0];
    let named: Vec<[u32; 2]> = ids.iter().map(|&id| [id, 4999 - id]).collect();
    let queries: Vec<RowQuery> = named
        .iter()
        .enumerate()
        .map(|(t, ids)| RowQuery { temperature: temperatures[t % 3], ids, top: 4, rank: true })
        .collect();
    let answers = linear_row_logprobs(&hidden, &head, &queries).unwrap();
    let sampled = |ids: &[u32], temperature| {
        let ids = Tensor::from_slice(ids, ROWS, &Device::Cpu).unwrap();
        let out = linear_token_logprobs(&hidden, &head, &ids, temperature).unwrap();
        out.logprobs.to_vec1::<f32>().unwrap()
    };
    for (which, temperature) in temperatures.into_iter().enumerate() {
        let first = sampled(&ids, temperature);
        let second = sampled(&named.iter().map(|ids| ids[1]).collect::<Vec<_>>(), temperature);
        for t in (which..ROWS).step_by(3) {
            assert_eq!(answers[t].logprobs, [first[t], second[t]]);
        }
    }
    // In f64, from the definition: ranks and the likeliest ids.
    let double = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let logits = double(&hidden).matmul(&double(&head).t().unwrap()).unwrap();
    for (row, (answer, ids)) in
        logits.to_vec2::<f64>().unwrap().iter().zip(answers.iter().zip(&named))
    {
        let own = row[ids[0] as usize];
        assert_eq!(answer.rank, Some(row.iter().filter(|&&x| x >= own).count()));
        let mut sorted: Vec<u32> = (0..VOCAB as u32).collect();
        sorted.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
        assert_eq!(answer.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), &sorted[..4]);
    }
}

#[test]
fn what_cannot_be_asked_is_named() {
    let (hidden, head) = inputs();
    let fails = |change: fn(&mut RowQuery<'_>)| {
        let plain = RowQuery { temperature: 1.0, ids: &[3], top: 0, rank: false };
        let mut queries = vec![plain; ROWS];
        change(&mut queries[5]);
        linear_row_logprobs(&hidden, &head, &queries).unwrap_err().to_string()
    };
    assert_eq!(
        fails(|query| query.ids = &[1, 5000]),
        "linear_row_logprobs: token id 5000 at position 5 is outside the vocabulary of 5000"
    );
    assert!(fails(|query| query.top = 5001).contains("top"));
    assert!(fails(|query| query.temperature = 0.0).contains("temperature"));
    let short = linear_row_logprobs(&hidden, &head, &[]).unwrap_err().to_string();
    assert_eq!(short, "linear_row_logprobs: queries must be [70], got [0]");
}
