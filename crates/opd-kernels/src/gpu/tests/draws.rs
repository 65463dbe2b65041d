use candle_core::{DType, Device, Tensor};
use opd_testkit::numbers;

use super::{agree, matrix};
use crate::{draw_rows, likeliest_rows};

/// Ids as numbers; -1 for none.
fn tensor(ids: Vec<Option<u32>>) -> Tensor {
    let n = ids.len();
    let ids: Vec<f64> = ids.into_iter().map(|id| id.map_or(-1.0, f64::from)).collect();
    Tensor::from_vec(ids, n, &Device::Cpu).unwrap()
}

fn uniforms(n: usize, seed: u64) -> Vec<f64> {
    numbers(n, seed, 1.0).into_iter().map(|x| f64::midpoint(x, 1.0).clamp(0.0, 0.999_999)).collect()
}

#[test]
fn ids_agree() {
    for (rows, width) in [(3, 1), (40, 5), (30, 255), (30, 256), (20, 257), (9, 5000), (3, 40_000)]
    {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for (temperature, scale) in [(1.0, 2.0), (0.3, 6.0), (2.5, 0.01)] {
                let logits = matrix(rows, width, 1, scale, dtype);
                let uniforms = uniforms(rows, 7);
                agree(0.0, || {
                    let drawn = draw_rows(&logits, temperature, &uniforms).unwrap();
                    vec![tensor(drawn), tensor(likeliest_rows(&logits).unwrap())]
                });
            }
        }
    }
}

#[test]
fn rows_that_are_no_distribution_and_ids_without_weight() {
    let inf = f32::INFINITY;
    let mut rows = vec![vec![0.0f32; 700]; 7];
    rows[0][500] = f32::NAN;
    rows[1][3] = inf;
    rows[2].fill(-inf);
    rows[3].fill(-inf);
    rows[3][300] = -5.0;
    rows[3][650] = -5.0;
    // Ties, and a weight that is 0 in f32.
    rows[4][699] = 1.0;
    rows[4][20] = 1.0;
    rows[5].fill(-2000.0);
    rows[5][699] = 0.0;
    let logits = Tensor::new(rows, &Device::Cpu).unwrap();
    for uniform in [0.0, 0.4999, 0.5001, 1.0 - f64::EPSILON] {
        for temperature in [1e-300, 0.5, 1e300] {
            agree(0.0, || {
                let drawn = draw_rows(&logits, temperature, &[uniform; 7]).unwrap();
                vec![tensor(drawn), tensor(likeliest_rows(&logits).unwrap())]
            });
        }
    }
    let none = logits.narrow(0, 0, 0).unwrap();
    agree(0.0, || vec![tensor(draw_rows(&none, 1.0, &[]).unwrap())]);
}
