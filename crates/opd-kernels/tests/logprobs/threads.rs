//! The same bits on 1, 2 and 4 threads.

use candle_core::DType;
use opd_kernels::{
    Divergence, Head, Products, Projection, Softmax, TokenOptions, divergence, linear_divergence,
    linear_token_logprobs, linear_token_scores, token_logprobs, token_scores,
};

use super::{
    gradients, host, ids, matrix, numbers,
    scores::{id_matrix, parts, total},
    weighted,
};

fn on(threads: usize, work: impl FnOnce() -> Vec<Vec<f64>> + Send) -> Vec<Vec<u64>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
    pool.install(work).into_iter().map(bits).collect()
}

fn same_on_any_number(work: impl Fn() -> Vec<Vec<f64>> + Send + Sync) {
    let one = on(1, &work);
    for threads in [2, 4] {
        assert!(one == on(threads, &work), "other bits on {threads} threads");
    }
}

const ROWS: usize = 150;
const WIDTH: usize = 24;
const VOCAB: usize = 3001;

#[test]
fn of_token_logprobs() {
    let ids = ids(&(0..ROWS as u32).map(|i| i * 13).collect::<Vec<_>>());
    let weights = numbers(ROWS, 5, 1.0);
    same_on_any_number(|| {
        let logits = matrix(&numbers(ROWS * VOCAB, 1, 5.0), ROWS, VOCAB, DType::F32);
        let hidden = matrix(&numbers(ROWS * WIDTH, 2, 1.0), ROWS, WIDTH, DType::F32);
        let head = matrix(&numbers(VOCAB * WIDTH, 3, 1.0), VOCAB, WIDTH, DType::F32);
        let dense = token_logprobs(&logits, &ids, 0.9).unwrap();
        let linear = linear_token_logprobs(&hidden, &head, &ids, 0.9).unwrap();
        let dense_sum = weighted(&(&dense.logprobs + &dense.entropy).unwrap(), &weights).unwrap();
        let linear_sum =
            weighted(&(&linear.logprobs + &linear.entropy).unwrap(), &weights).unwrap();
        let mut all = vec![host(&dense.logprobs), host(&linear.logprobs)];
        all.extend(gradients(&dense_sum, &[&logits]));
        all.extend(gradients(&linear_sum, &[&hidden, &head]));
        all
    });
}

#[test]
fn of_token_scores() {
    let targets: Vec<u32> = (0..ROWS as u32).map(|i| i * 13).collect();
    let named = id_matrix(&[targets.as_slice(), &targets].concat(), ROWS, 2);
    let targets = ids(&targets);
    let softmax = Softmax { temperature: 0.9, soft_cap: Some(6.0) };
    let options =
        TokenOptions { softmax, entropy: true, argmax: true, top_k: 8, named: Some(&named) };
    same_on_any_number(|| {
        let logits = matrix(&numbers(ROWS * VOCAB, 1, 5.0), ROWS, VOCAB, DType::F32);
        let hidden = matrix(&numbers(ROWS * WIDTH, 2, 1.0), ROWS, WIDTH, DType::F32);
        let weight = matrix(&numbers(VOCAB * WIDTH, 3, 1.0), VOCAB, WIDTH, DType::F32);
        let bias = matrix(&numbers(VOCAB, 4, 1.0), 1, VOCAB, DType::F32);
        let offset = bias.squeeze(0).unwrap();
        let head = Head::new(&weight, Products::Full).with_bias(&offset);
        let dense = token_scores(&logits, &targets, &options).unwrap();
        let linear = linear_token_scores(&hidden, head, &targets, &options).unwrap();
        let mut all = gradients(&total(&dense, 7), &[&logits]);
        all.extend(gradients(&total(&linear, 7), &[&hidden, &weight, &bias]));
        for scores in [dense, linear] {
            all.extend(parts(&scores).iter().map(|(_, part)| host(part)));
            all.push(host(&scores.top.unwrap().ids));
        }
        all
    });
}

#[test]
fn of_divergences() {
    let ids = ids(&(0..ROWS as u32).map(|i| i * 13).collect::<Vec<_>>());
    let weights = numbers(ROWS, 5, 1.0);
    for kind in [Divergence::ReverseKl, Divergence::Jsd { beta: 0.5 }] {
        same_on_any_number(|| {
            let logits = |seed| matrix(&numbers(ROWS * VOCAB, seed, 5.0), ROWS, VOCAB, DType::F32);
            let hidden = |seed| matrix(&numbers(ROWS * WIDTH, seed, 1.0), ROWS, WIDTH, DType::F32);
            let head = |seed| matrix(&numbers(VOCAB * WIDTH, seed, 1.0), VOCAB, WIDTH, DType::F32);
            let (student, teacher) = (logits(1), logits(2));
            let dense = divergence(&student, &teacher, &ids, kind, 1.0).unwrap().divergence;
            let (h, w, their_h, their_w) = (hidden(3), head(4), hidden(5), head(6));
            let ours = Projection::new(&h, &w);
            let theirs = Projection::new(&their_h, &their_w);
            let linear = linear_divergence(ours, theirs, &ids, kind, 1.0).unwrap().divergence;
            let mut all = vec![host(&dense), host(&linear)];
            all.extend(gradients(&weighted(&dense, &weights).unwrap(), &[&student]));
            all.extend(gradients(&weighted(&linear, &weights).unwrap(), &[&h, &w]));
            all
        });
    }
}
