use candle_core::{D, DType, Device, Tensor};
use opd_kernels::{HeadNorms, Heads, RotaryTable, reference, rotate_heads, rotate_heads_backward};
use opd_testkit::{assert_close, assert_gradient, host, numbers};

use super::{ids, t64, weighted};

const EPS: f64 = 1e-3;
const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_dim: 6 };
const POSITIONS: [u32; 5] = [0, 3, 3, 19, 1];

fn frequencies(head_dim: usize) -> Vec<f64> {
    (0..head_dim / 2).map(|i| 100f64.powf(-2.0 * i as f64 / head_dim as f64)).collect()
}

fn table(head_dim: usize, dtype: DType) -> RotaryTable {
    RotaryTable::new(&frequencies(head_dim), 20, dtype, &Device::Cpu).unwrap()
}

/// As transformers writes it: `x cos + rotate_half(x) sin`, each angle twice in a row.
fn transformers(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<(&Tensor, &Tensor)>,
    positions: &[u32],
) -> Tensor {
    let Heads { heads, kv_heads, head_dim } = heads;
    let x = qkv.reshape((positions.len(), heads + 2 * kv_heads, head_dim)).unwrap();
    let angles: Vec<f64> = positions
        .iter()
        .flat_map(|&p| frequencies(head_dim).repeat(2).into_iter().map(move |f| f64::from(p) * f))
        .collect();
    let angles = t64(&angles, (positions.len(), 1, head_dim));
    let rotated = |first: usize, n: usize, norm: Option<&Tensor>| {
        let x = x.narrow(1, first, n).unwrap().contiguous().unwrap();
        let x = norm.map_or(x.clone(), |weight| reference::rms_norm(&x, weight, EPS).unwrap());
        let half = |i| x.narrow(D::Minus1, i * head_dim / 2, head_dim / 2).unwrap();
        let turned = Tensor::cat(&[half(1).neg().unwrap(), half(0)], D::Minus1).unwrap();
        let cos = x.broadcast_mul(&angles.cos().unwrap()).unwrap();
        (cos + turned.broadcast_mul(&angles.sin().unwrap()).unwrap()).unwrap()
    };
    let queries = rotated(0, heads, norms.map(|(query, _)| query));
    let keys = rotated(heads, kv_heads, norms.map(|(_, key)| key));
    let values = x.narrow(1, heads + kv_heads, kv_heads).unwrap();
    Tensor::cat(&[queries, keys, values], 1).unwrap()
}

#[test]
fn values_are_those_of_the_formula() {
    for head_dim in [2, 6, 40] {
        let heads = Heads { head_dim, ..HEADS };
        let qkv = t64(&numbers(5 * 8 * head_dim, 1, 2.0), (5, 8 * head_dim));
        let weights = [2, 3].map(|seed| t64(&numbers(head_dim, seed, 1.5), head_dim));
        for with_norms in [false, true] {
            let want = with_norms.then_some((&weights[0], &weights[1]));
            let want = host(&transformers(&qkv, heads, want, &POSITIONS));
            for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 3e-6)] {
                let cast = |t: &Tensor| t.to_dtype(dtype).unwrap();
                let (query, key) = (cast(&weights[0]), cast(&weights[1]));
                let norms = HeadNorms { query: &query, key: &key, eps: EPS };
                let norms = with_norms.then_some(norms);
                let table = table(head_dim, dtype);
                let got = rotate_heads(&cast(&qkv), heads, norms, &table, &ids(&POSITIONS));
                assert_close(&host(&got.unwrap()), &want, tolerance);
            }
        }
    }
}

#[test]
fn gradients_are_central_differences() {
    let width = HEADS.total() * HEADS.head_dim;
    let n = POSITIONS.len() * width;
    let (x, dy) = (numbers(n, 1, 2.0), numbers(n, 2, 1.0));
    let weights = [3, 4].map(|seed| numbers(HEADS.head_dim, seed, 1.5));
    let (table, positions) = (table(HEADS.head_dim, DType::F64), ids(&POSITIONS));
    let value = |x: &[f64], query: &[f64], key: &[f64], with_norms: bool| {
        let (query, key) = (t64(query, HEADS.head_dim), t64(key, HEADS.head_dim));
        let norms = with_norms.then_some(HeadNorms { query: &query, key: &key, eps: EPS });
        let qkv = t64(x, (POSITIONS.len(), width));
        weighted(&rotate_heads(&qkv, HEADS, norms, &table, &positions).unwrap(), &dy)
    };
    let [query, key] = &weights;
    for with_norms in [false, true] {
        let tensors = [query, key].map(|weight| t64(weight, HEADS.head_dim));
        let norms = HeadNorms { query: &tensors[0], key: &tensors[1], eps: EPS };
        let gradients = rotate_heads_backward(
            &t64(&x, (POSITIONS.len(), width)),
            HEADS,
            with_norms.then_some(norms),
            &table,
            &positions,
            &t64(&dy, (POSITIONS.len(), HEADS.total(), HEADS.head_dim)),
        )
        .unwrap();
        assert_gradient(&host(&gradients.qkv), &x, 1e-8, |x| value(x, query, key, with_norms));
        let Some((dquery, dkey)) = gradients.norms else {
            assert!(!with_norms);
            continue;
        };
        assert_gradient(&host(&dquery), query, 1e-8, |query| value(&x, query, key, true));
        assert_gradient(&host(&dkey), key, 1e-8, |key| value(&x, query, key, true));
    }
}

#[test]
fn stored_values_have_the_results_of_their_values() {
    let Heads { head_dim, .. } = HEADS;
    let stored = t64(&numbers(5 * 8 * head_dim, 1, 2.0), (5, 8 * head_dim));
    let stored = stored.to_dtype(DType::BF16).unwrap();
    let plain = stored.to_dtype(DType::F32).unwrap();
    let [query, key] = [2, 3]
        .map(|seed| t64(&numbers(head_dim, seed, 1.5), head_dim).to_dtype(DType::F32).unwrap());
    let (table, positions) = (table(head_dim, DType::F32), ids(&POSITIONS));
    let norms = HeadNorms { query: &query, key: &key, eps: EPS };
    for norms in [None, Some(norms)] {
        let run = |qkv: &Tensor| rotate_heads(qkv, HEADS, norms, &table, &positions).unwrap();
        let y = run(&stored);
        assert_eq!((y.dtype(), host(&y)), (DType::F32, host(&run(&plain))));
        let back = |qkv: &Tensor| {
            let given = rotate_heads_backward(qkv, HEADS, norms, &table, &positions, &y).unwrap();
            let of_norms = given.norms.map(|(query, key)| [host(&query), host(&key)]);
            (host(&given.qkv), of_norms)
        };
        assert_eq!(back(&stored), back(&plain));
    }
}
