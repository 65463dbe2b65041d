use candle_core::{DType, Device, Tensor};
use opd_kernels::{Divergence, TokenLogprobs, divergence, reference, token_logprobs};
use opd_testkit::host;

use super::{Case, DTYPES, differentiated, truth, values};

fn ids() -> Tensor {
    let ids: Vec<u32> = (0..64).map(|i| i * 61 % 4096).collect();
    Tensor::new(ids, &Device::Cpu).unwrap()
}

fn statistics(tokens: TokenLogprobs) -> Vec<Tensor> {
    vec![tokens.logprobs, tokens.lse, tokens.entropy]
}

#[test]
fn log_probs() {
    for dtype in DTYPES {
        let mut case = Case::new("token_logprobs", dtype);
        let (logits, ids) = (values(17, &[64, 4096], dtype, 8.0), ids());
        let upstream = [18, 19, 20].map(|seed| values(seed, &[64], dtype, 2.0));
        let upstream = upstream.each_ref();
        let (want, dlogits) = truth(&[&logits], &upstream, |of| {
            statistics(reference::token_logprobs(&of[0], &ids, 1.0).unwrap())
        });
        let (got, gradient) = differentiated(&[&logits], &upstream, dtype, |of| {
            statistics(token_logprobs(&of[0], &ids, 1.0).unwrap())
        });
        for (i, name) in ["logprobs", "lse", "entropy"].into_iter().enumerate() {
            assert_eq!(got[i].dtype(), DType::F32);
            case.output(name, &got[i], &want[i]);
        }
        case.output("dlogits", &gradient[0], &dlogits[0]);
        case.finish();
        let of = |i: usize| host(&got[i]).into_iter().zip(host(&want[i]));
        for ((logprob, want), (_, lse)) in of(0).zip(of(1)) {
            let bound = 5e-6 * lse.abs().max(1.0);
            assert!((logprob - want).abs() <= bound, "{dtype:?}: {logprob}, expected {want}");
        }
    }
}

#[test]
fn divergences() {
    let kinds = [
        ("forward_kl", Divergence::ForwardKl),
        ("reverse_kl", Divergence::ReverseKl),
        ("jsd", Divergence::Jsd { beta: 0.5 }),
        ("skew_forward_kl", Divergence::SkewForwardKl { alpha: 0.1 }),
        ("skew_reverse_kl", Divergence::SkewReverseKl { alpha: 0.1 }),
    ];
    for (name, kind) in kinds {
        for dtype in DTYPES {
            let mut case = Case::new(name, dtype);
            let [student, teacher] = [21, 22].map(|seed| values(seed, &[64, 4096], dtype, 8.0));
            let (ids, upstream) = (ids(), values(23, &[64], dtype, 2.0));
            let (want, dlogits) = truth(&[&student], &[&upstream], |of| {
                let all = reference::divergence(&of[0], &teacher, &ids, kind, 1.0).unwrap();
                vec![all.divergence]
            });
            let stored = teacher.to_dtype(dtype).unwrap();
            let (got, gradient) = differentiated(&[&student], &[&upstream], dtype, |of| {
                vec![divergence(&of[0], &stored, &ids, kind, 1.0).unwrap().divergence]
            });
            case.output("divergence", &got[0], &want[0]);
            case.output("dlogits", &gradient[0], &dlogits[0]);
            case.finish();
        }
    }
}
