use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    Divergence, Projection, TokenLogprobs, linear_divergence, linear_row_loss,
    linear_support_logprobs, linear_token_logprobs, linear_total_variation, reference,
};

use super::{Case, DTYPES, differentiated, truth, values};

fn ids(n: u32) -> Tensor {
    Tensor::new((0..n).map(|i| i * 61 % 2048).collect::<Vec<_>>(), &Device::Cpu).unwrap()
}

/// Hidden states and head.
fn model(seed: u32, dtype: DType) -> [Tensor; 2] {
    [values(seed, &[80, 256], dtype, 2.0), values(seed + 1, &[2048, 256], dtype, 0.25)]
}

fn upstream(seeds: &[u32], dtype: DType) -> Vec<Tensor> {
    seeds.iter().map(|&seed| values(seed, &[80], dtype, 2.0)).collect()
}

fn gradients(case: &mut Case, got: &[Tensor], want: &[Tensor]) {
    case.output("dhidden", &got[0], &want[0]);
    case.output("dhead", &got[1], &want[1]);
}

#[test]
fn log_probs() {
    let statistics = |tokens: TokenLogprobs| vec![tokens.logprobs, tokens.lse, tokens.entropy];
    for dtype in DTYPES {
        let mut case = Case::new("linear_token_logprobs", dtype);
        let ([hidden, head], ids) = (model(24, dtype), ids(80));
        let upstream = upstream(&[26, 27, 28], dtype);
        let upstream: Vec<&Tensor> = upstream.iter().collect();
        let (want, of_truth) = truth(&[&hidden, &head], &upstream, |of| {
            statistics(reference::linear_token_logprobs(&of[0], &of[1], &ids, 1.0).unwrap())
        });
        let (got, of_got) = differentiated(&[&hidden, &head], &upstream, dtype, |of| {
            statistics(linear_token_logprobs(&of[0], &of[1], &ids, 1.0).unwrap())
        });
        for (i, name) in ["logprobs", "lse", "entropy"].into_iter().enumerate() {
            assert_eq!(got[i].dtype(), DType::F32);
            case.output(name, &got[i], &want[i]);
        }
        gradients(&mut case, &of_got, &of_truth);
        case.finish();
    }
}

#[test]
fn losses_of_rows() {
    for dtype in DTYPES {
        let mut case = Case::new("linear_row_loss", dtype);
        let ([hidden, head], ids) = (model(24, dtype), ids(80));
        let each = Tensor::full(1.0 / 64.0, 80, &Device::Cpu).unwrap();
        let (want, of_truth) = truth(&[&hidden, &head], &[&each], |of| {
            let tokens = reference::linear_token_logprobs(&of[0], &of[1], &ids, 1.0).unwrap();
            vec![tokens.logprobs.neg().unwrap()]
        });
        let losses = std::cell::RefCell::new(Vec::new());
        let sum = Tensor::new(&[1f64], &Device::Cpu).unwrap();
        let (_, of_got) = differentiated(&[&hidden, &head], &[&sum], dtype, |of| {
            let loss = linear_row_loss(&of[0], &of[1], &ids, 1.0, |_, tokens| {
                losses.borrow_mut().push(tokens.logprobs.neg()?);
                tokens.logprobs.sum_all()? * (-1.0 / 64.0)
            });
            vec![loss.unwrap().loss]
        });
        case.output("loss", &Tensor::cat(&losses.borrow(), 0).unwrap(), &want[0]);
        gradients(&mut case, &of_got, &of_truth);
        case.finish();
    }
}

#[test]
fn divergences() {
    for dtype in DTYPES {
        let mut case = Case::new("linear_divergence", dtype);
        let ([hidden, head], theirs, ids) = (model(24, dtype), model(29, dtype), ids(80));
        let upstream = upstream(&[26], dtype);
        let upstream: Vec<&Tensor> = upstream.iter().collect();
        let kind = Divergence::ReverseKl;
        let (want, of_truth) = truth(&[&hidden, &head], &upstream, |of| {
            let student = Projection::new(&of[0], &of[1]);
            let teacher = Projection::new(&theirs[0], &theirs[1]);
            let all = reference::linear_divergence(student, teacher, &ids, kind, 1.0).unwrap();
            vec![all.divergence]
        });
        let theirs = theirs.each_ref().map(|t| t.to_dtype(dtype).unwrap());
        let (got, of_got) = differentiated(&[&hidden, &head], &upstream, dtype, |of| {
            let student = Projection::new(&of[0], &of[1]);
            let teacher = Projection::new(&theirs[0], &theirs[1]);
            vec![linear_divergence(student, teacher, &ids, kind, 1.0).unwrap().divergence]
        });
        case.output("divergence", &got[0], &want[0]);
        gradients(&mut case, &of_got, &of_truth);
        case.finish();
    }
}

#[test]
fn log_probs_of_several_ids() {
    let ids = ids(240).reshape((80, 3)).unwrap();
    for dtype in DTYPES {
        let mut case = Case::new("linear_support_logprobs", dtype);
        let [hidden, head] = model(24, dtype);
        let upstream = values(31, &[80, 3], dtype, 2.0);
        let (want, of_truth) = truth(&[&hidden, &head], &[&upstream], |of| {
            let all = reference::linear_support_logprobs(&of[0], &of[1], &ids, 1.0).unwrap();
            vec![all.logprobs]
        });
        let (got, of_got) = differentiated(&[&hidden, &head], &[&upstream], dtype, |of| {
            vec![linear_support_logprobs(&of[0], &of[1], &ids, 1.0).unwrap().logprobs]
        });
        case.output("logprobs", &got[0], &want[0]);
        gradients(&mut case, &of_got, &of_truth);
        case.finish();
    }
}

/// Its gradient jumps where the models agree: an error there is not one of rounding.
#[test]
fn distances() {
    for dtype in DTYPES {
        let mut case = Case::new("linear_total_variation", dtype);
        let (ours, theirs, ids) = (model(24, dtype), model(29, dtype), ids(80));
        let of = |model: &[Tensor; 2], dtype| model.each_ref().map(|t| t.to_dtype(dtype).unwrap());
        let (a, b) = (of(&ours, dtype), of(&theirs, dtype));
        let got = linear_total_variation(
            Projection::new(&a[0], &a[1]),
            Projection::new(&b[0], &b[1]),
            &ids,
            1.0,
        );
        let want = reference::linear_total_variation(
            Projection::new(&ours[0], &ours[1]),
            Projection::new(&theirs[0], &theirs[1]),
            &ids,
            1.0,
        );
        case.output("distance", &got.unwrap().divergence, &want.unwrap().divergence);
        case.finish();
    }
}
