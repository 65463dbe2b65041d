use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    HeadNorms, Heads, RotaryTable, Spans, attention, attention_backward, embedding, linear,
    linear_grad_input, linear_grad_weight, reference, rms_norm, rms_norm_backward, rotate_heads,
    rotate_heads_backward, scatter_add_rows, swiglu, swiglu_backward,
};

use super::{Case, DTYPES, truth, values};

const EPS: f64 = 1e-5;

#[test]
fn norms() {
    for dtype in DTYPES {
        let mut case = Case::new("rms_norm", dtype);
        let (x, weight) = (values(1, &[96, 512], dtype, 2.0), values(2, &[512], dtype, 2.0));
        let dy = values(3, &[96, 512], dtype, 2.0);
        let (y, gradients) = truth(&[&x, &weight], &[&dy], |of| {
            vec![reference::rms_norm(&of[0], &of[1], EPS).unwrap()]
        });
        let [x, weight, dy] = [&x, &weight, &dy].map(|t| t.to_dtype(dtype).unwrap());
        case.output("y", &rms_norm(&x, &weight, EPS).unwrap(), &y[0]);
        let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, None, EPS).unwrap();
        case.output("dx", &dx, &gradients[0]);
        case.output("dweight", &dweight, &gradients[1]);
        case.finish();
    }
}

#[test]
fn gates() {
    for dtype in DTYPES {
        let mut case = Case::new("swiglu", dtype);
        let (x, dy) = (values(4, &[96, 1024], dtype, 4.0), values(5, &[96, 512], dtype, 2.0));
        let (y, dx) = truth(&[&x], &[&dy], |of| vec![reference::swiglu(&of[0]).unwrap()]);
        let [x, dy] = [&x, &dy].map(|t| t.to_dtype(dtype).unwrap());
        case.output("y", &swiglu(&x).unwrap(), &y[0]);
        case.output("dx", &swiglu_backward(&x, &dy).unwrap(), &dx[0]);
        case.finish();
    }
}

#[test]
fn rotations() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
    let frequencies: Vec<f64> = (0..32).map(|i| 0.75f64.powi(i)).collect();
    let positions = Tensor::arange(0u32, 64, &Device::Cpu).unwrap();
    for dtype in DTYPES {
        let mut case = Case::new("rotate_heads", dtype);
        let table = RotaryTable::new(&frequencies, 64, dtype, &Device::Cpu).unwrap();
        let wide = table.to_dtype(DType::F64).unwrap();
        let x = values(6, &[64, 512], dtype, 2.0);
        let [query, key] = [7, 8].map(|seed| values(seed, &[64], dtype, 2.0));
        let dy = values(9, &[64, 8, 64], dtype, 2.0);
        let (y, gradients) = truth(&[&x, &query, &key], &[&dy], |of| {
            let norms = Some(HeadNorms { query: &of[1], key: &of[2], eps: EPS });
            vec![reference::rotate_heads(&of[0], heads, norms, &wide, &positions).unwrap()]
        });
        let [x, query, key, dy] = [&x, &query, &key, &dy].map(|t| t.to_dtype(dtype).unwrap());
        let norms = Some(HeadNorms { query: &query, key: &key, eps: EPS });
        let got = rotate_heads(&x, heads, norms, &table, &positions).unwrap();
        case.output("y", &got, &y[0]);
        let got = rotate_heads_backward(&x, heads, norms, &table, &positions, &dy).unwrap();
        let (dquery, dkey) = got.norms.unwrap();
        for (name, got, want) in [("dx", got.qkv, 0), ("dquery", dquery, 1), ("dkey", dkey, 2)] {
            case.output(name, &got, &gradients[want]);
        }
        case.finish();
    }
}

#[test]
fn attentions() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
    let spans = Spans::causal([160]);
    let parts =
        |x: &Tensor| [(0, 4), (4, 2), (6, 2)].map(|(first, n)| x.narrow(1, first, n).unwrap());
    for dtype in DTYPES {
        let mut case = Case::new("attention", dtype);
        let (x, dy) =
            (values(10, &[160, 8, 64], dtype, 2.0), values(11, &[160, 4, 64], dtype, 2.0));
        let (y, dx) = truth(&[&x], &[&dy], |of| {
            let [q, k, v] = parts(&of[0]);
            vec![reference::attention(&q, &k, &v, &spans).unwrap().out]
        });
        let [x, dy] = [&x, &dy].map(|t| t.to_dtype(dtype).unwrap());
        let [q, k, v] = parts(&x);
        let got = attention(&q, &k, &v, &spans).unwrap();
        case.output("y", &got.out, &y[0]);
        case.output("dx", &attention_backward(&x, heads, &spans, &got, &dy).unwrap(), &dx[0]);
        case.finish();
    }
}

#[test]
fn linears() {
    for dtype in DTYPES {
        let mut case = Case::new("linear", dtype);
        let x = values(12, &[200, 1024], dtype, 2.0);
        let weight = values(13, &[160, 1024], dtype, 2.0);
        let dy = values(14, &[200, 160], dtype, 2.0);
        let (y, gradients) =
            truth(&[&x, &weight], &[&dy], |of| vec![reference::linear(&of[0], &of[1]).unwrap()]);
        let [x, weight, dy] = [&x, &weight, &dy].map(|t| t.to_dtype(dtype).unwrap());
        case.output("y", &linear(&x, &weight).unwrap(), &y[0]);
        case.output("dx", &linear_grad_input(&dy, &weight).unwrap(), &gradients[0]);
        case.output("dweight", &linear_grad_weight(&dy, &x).unwrap(), &gradients[1]);
        case.finish();
    }
}

#[test]
fn tables() {
    let ids: Vec<u32> = (0..600).map(|i| i * 7 % 13).collect();
    let ids = Tensor::new(ids, &Device::Cpu).unwrap();
    for dtype in DTYPES {
        let mut case = Case::new("embedding", dtype);
        let (table, dy) = (values(15, &[13, 512], dtype, 2.0), values(16, &[600, 512], dtype, 2.0));
        let (y, gradients) =
            truth(&[&table], &[&dy], |of| vec![reference::embedding(&of[0], &ids).unwrap()]);
        let [table, dy] = [&table, &dy].map(|t| t.to_dtype(dtype).unwrap());
        case.output("y", &embedding(&table, &ids).unwrap(), &y[0]);
        let sums = table.zeros_like().unwrap();
        scatter_add_rows(&sums, &ids, &dy).unwrap();
        case.output("dweight", &sums, &gradients[0]);
        case.finish();
    }
}
