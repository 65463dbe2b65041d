use opd_batch::ScoredSequence;
use opd_kernels::linear;
use opd_rollout::{Sampling, Strategy};
use opd_testkit::host;

use super::{generate, load, requests, sampling};

/// The distribution that top-k, then top-p, leave of `p`: 0 where cut, the rest scaled to 1.
pub(super) fn kept(p: &[f64], top_k: Option<usize>, top_p: Option<f64>) -> Vec<f64> {
    let mut ranked: Vec<usize> = (0..p.len()).collect();
    ranked.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    ranked.truncate(top_k.unwrap_or(p.len()));
    let total: f64 = ranked.iter().map(|&id| p[id]).sum();
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for id in ranked {
        if sum >= top_p.unwrap_or(f64::INFINITY) * total {
            break;
        }
        sum += p[id];
        kept.push(id);
    }
    let mut left = vec![0.0; p.len()];
    for id in kept {
        left[id] = p[id] / sum;
    }
    left
}

#[test]
fn full_and_truncated_log_probs_are_those_of_the_definition() {
    let model = load("qwen3_untied");
    for (top_k, top_p) in [
        (Some(1), None),
        (Some(7), None),
        (None, Some(0.4)),
        (Some(20), Some(0.5)),
        (None, Some(1.0)),
        (Some(1000), None),
    ] {
        let temperature = 0.7;
        let strategy = Strategy::Random { temperature, top_k, top_p };
        let sampling = Sampling { strategy, ..sampling(temperature) };
        let requests = requests();
        let generations = generate(&model, 5, &requests, &sampling);
        for (request, generation) in requests.iter().zip(&generations) {
            let (prompt, response) = (&request.prompt, &generation.tokens);
            let packed = model.pack(&[ScoredSequence { prompt, response }]).unwrap();
            let hidden = model.hidden(&packed).unwrap();
            let logits = host(&linear(&hidden, model.head()).unwrap());
            let truncated = generation.truncated_logprobs.as_ref().unwrap();
            assert_eq!(truncated.len(), response.len());
            for (t, logits) in logits.chunks(320).enumerate() {
                let weights: Vec<f64> = logits.iter().map(|l| (l / temperature).exp()).collect();
                let total: f64 = weights.iter().sum();
                let p: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
                let id = response[t] as usize;
                let near = |got: f32, want: f64| {
                    assert!((f64::from(got) - want).abs() < 1e-5, "{got}, expected {want}");
                };
                near(generation.logprobs[t], p[id].ln());
                near(truncated[t], kept(&p, top_k, top_p)[id].ln());
            }
        }
    }
}
