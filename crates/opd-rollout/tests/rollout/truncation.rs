use opd_batch::ScoredSequence;
use opd_rollout::{Sampling, Strategy, Truncation};
use opd_testkit::host;

use super::{generate, load, requests, sampling};

/// The distribution that top-k, then top-p, then min-p, leave of `p`: 0 where cut, the rest scaled
/// to 1.
pub(super) fn kept(p: &[f64], Truncation { top_k, top_p, min_p }: Truncation) -> Vec<f64> {
    let mut ranked: Vec<usize> = (0..p.len()).collect();
    ranked.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    ranked.truncate(top_k.unwrap_or(p.len()));
    let total: f64 = ranked.iter().map(|&id| p[id]).sum();
    let least = min_p.map_or(0.0, |share| share * p[ranked[0]]);
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for id in ranked {
        if sum >= top_p.unwrap_or(f64::INFINITY) * total {
            break;
        }
        sum += p[id];
        if p[id] >= least {
            kept.push(id);
        }
    }
    let sum: f64 = kept.iter().map(|&id| p[id]).sum();
    let mut left = vec![0.0; p.len()];
    for id in kept {
        left[id] = p[id] / sum;
    }
    left
}

fn softmax(logits: impl Iterator<Item = f64>, temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.map(|logit| (logit / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

#[test]
fn full_and_truncated_log_probs_are_those_of_the_definition() {
    let model = load("qwen3_untied");
    for (top_k, top_p, min_p, repetition_penalty) in [
        (Some(1), None, None, 1.0),
        (Some(7), None, None, 1.0),
        (None, Some(0.4), None, 1.0),
        (Some(20), Some(0.5), None, 1.0),
        (None, Some(1.0), None, 1.0),
        (Some(1000), None, None, 1.0),
        (None, None, Some(0.3), 1.0),
        (Some(40), Some(0.9), Some(0.1), 1.0),
        (None, None, None, 1.3),
        (Some(20), None, None, 0.8),
    ] {
        let temperature = 0.7;
        let truncation = Truncation { top_k, top_p, min_p };
        let strategy = Strategy::Random { temperature, kept: truncation };
        let sampling = Sampling { strategy, repetition_penalty, ..sampling(temperature) };
        let requests = requests();
        let generations = generate(&model, 5, &requests, &sampling);
        for (request, generation) in requests.iter().zip(&generations) {
            let (prompt, response) = (&request.prompt, &generation.tokens);
            let packed = model.pack(&[ScoredSequence { prompt, response }]).unwrap();
            let hidden = model.hidden(&packed).unwrap();
            let logits = host(&model.products().linear(&hidden, model.head().weight).unwrap());
            let truncated = generation.truncated_logprobs.as_ref().unwrap();
            assert_eq!(truncated.len(), response.len());
            for (t, logits) in logits.chunks(320).enumerate() {
                let p = softmax(logits.iter().copied(), temperature);
                let seen: Vec<u32> = prompt.iter().chain(&response[..t]).copied().collect();
                let penalised = logits.iter().enumerate().map(|(id, &logit)| {
                    match (seen.contains(&(id as u32)), logit > 0.0) {
                        (false, _) => logit,
                        (true, true) => logit / repetition_penalty,
                        (true, false) => logit * repetition_penalty,
                    }
                });
                let drawn_from = kept(&softmax(penalised, temperature), truncation);
                let id = response[t] as usize;
                let near = |got: f32, want: f64| {
                    assert!((f64::from(got) - want).abs() < 1e-5, "{got}, expected {want}");
                };
                near(generation.logprobs[t], p[id].ln());
                near(truncated[t], drawn_from[id].ln());
            }
        }
    }
}
