//! The same bits on 1, 2 and 4 threads, in every dtype that is stored.

use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    AdamWStep, HeadNorms, Heads, RotaryTable, Span, Spans, adamw_step, add_assign, add_rms_norm,
    attention, attention_backward, embedding, rms_norm, rms_norm_backward, rotate_heads,
    rotate_heads_backward, scatter_add_rows, sum_of_squares, swiglu, swiglu_backward,
};
use opd_testkit::{host, numbers, same_on_any_number_of_threads, tensor};

use super::ids;

const ROWS: usize = 500;
const WIDTH: usize = 64;

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

fn in_dtype(dtype: DType) -> impl Fn(usize, usize, u64) -> Tensor + Send + Sync {
    move |rows, width, seed| tensor(&numbers(rows * width, seed, 2.0), (rows, width), dtype)
}

#[test]
fn of_norms_and_activations() {
    for of in DTYPES.map(in_dtype) {
        same_on_any_number_of_threads(|| {
            let (x, dy, weight) = (of(ROWS, WIDTH, 1), of(ROWS, WIDTH, 2), of(1, WIDTH, 3));
            let weight = weight.flatten_all().unwrap();
            let (sum, normed) = add_rms_norm(&x, &dy, &weight, 1e-6).unwrap();
            let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, Some(&sum), 1e-6).unwrap();
            let half = of(ROWS, WIDTH / 2, 4);
            let all = [
                rms_norm(&x, &weight, 1e-6).unwrap(),
                sum,
                normed,
                dx,
                dweight,
                swiglu(&x).unwrap(),
                swiglu_backward(&x, &half).unwrap(),
            ];
            all.iter().map(host).collect()
        });
    }
}

#[test]
fn of_attention_and_rotation() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 16 };
    let positions: Vec<u32> = (0..ROWS as u32).map(|i| i % 50).collect();
    // Prompts of 10 rows with three responses of 5 each.
    let spans = (0..ROWS / 25).flat_map(|group| {
        let start = group * 25;
        let rows = |from: usize, n: usize| start + from..start + from + n;
        let response = move |i: usize| Span {
            queries: rows(10 + 5 * i, 5),
            prefix: rows(0, 10),
            keys: rows(10 + 5 * i, 5),
        };
        let prompt = Span { queries: rows(0, 10), prefix: 0..0, keys: rows(0, 10) };
        std::iter::once(prompt).chain((0..3).map(response)).collect::<Vec<_>>()
    });
    let spans = Spans::new(spans.collect(), ROWS, ROWS).unwrap();
    for (dtype, of) in DTYPES.map(|dtype| (dtype, in_dtype(dtype))) {
        same_on_any_number_of_threads(|| {
            let frequencies: Vec<f64> = (0..8).map(|i| 0.5f64.powi(i)).collect();
            let table = RotaryTable::new(&frequencies, 50, dtype, &Device::Cpu).unwrap();
            let positions = ids(&positions);
            let (query, key) = (of(1, 16, 5).get(0).unwrap(), of(1, 16, 6).get(0).unwrap());
            let norms = Some(HeadNorms { query: &query, key: &key, eps: 1e-6 });
            let qkv = of(ROWS, 8 * 16, 1);
            let rotated = rotate_heads(&qkv, heads, norms, &table, &positions).unwrap();
            let part = |first, n| rotated.narrow(1, first, n).unwrap();
            let output = attention(&part(0, 4), &part(4, 2), &part(6, 2), &spans).unwrap();
            let dout = of(ROWS, 64, 2).reshape((ROWS, 4, 16)).unwrap();
            let dqkv = attention_backward(&rotated, heads, &spans, &output, &dout).unwrap();
            let gradients =
                rotate_heads_backward(&qkv, heads, norms, &table, &positions, &dqkv).unwrap();
            let (dquery, dkey) = gradients.norms.unwrap();
            let all = [rotated, output.out, output.lse, dqkv, gradients.qkv, dquery, dkey];
            all.iter().map(host).collect()
        });
    }
}

#[test]
fn of_tables_and_optimizer() {
    for of in DTYPES.map(in_dtype) {
        same_on_any_number_of_threads(|| {
            let (table, rows) = (of(100, WIDTH, 1), of(ROWS, WIDTH, 2));
            let ids = ids(&(0..ROWS as u32).map(|i| i * 7 % 100).collect::<Vec<_>>());
            let embedded = embedding(&table, &ids).unwrap();
            scatter_add_rows(&table, &ids, &rows).unwrap();
            let zeros = || Tensor::zeros((ROWS, WIDTH), DType::F32, &Device::Cpu).unwrap();
            let (first, second) = (zeros(), zeros());
            let settings = AdamWStep {
                lr: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-8,
                weight_decay: 0.1,
                gradient_scale: 0.3,
                step: 3,
            };
            let parameter = in_dtype(DType::F32)(ROWS, WIDTH, 3);
            adamw_step(&parameter, &rows, &first, &second, &settings).unwrap();
            add_assign(&rows, &embedded).unwrap();
            let mut all: Vec<_> =
                [&embedded, &table, &parameter, &first, &second, &rows].map(host).into();
            all.push(vec![sum_of_squares(&rows).unwrap()]);
            all
        });
    }
}
