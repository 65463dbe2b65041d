use opd_batch::Author;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::config::{MixBy, MixConfig};

/// Streams of the draws, apart from those of sampled responses.
const STREAMS: u64 = 5 << 60;

/// Who writes the responses to each of the `n` prompts of step `step`: a function of the seed,
/// the step and the prompt's place alone, so that a resumed run draws the same.
pub(crate) fn authors(mix: &MixConfig, seed: u64, step: u64, n: usize) -> Vec<Author> {
    let draw = |place: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAMS + place);
        // 53 random bits: a number in [0, 1).
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let at = uniform * mix.total();
        match () {
            () if at < mix.student => Author::Student,
            () if at < mix.student + mix.label => Author::Label,
            () if mix.teacher > 0.0 => Author::Teacher,
            // Rounding may put `at` on the sum of the shares.
            () if mix.label > 0.0 => Author::Label,
            () => Author::Student,
        }
    };
    match mix.by {
        MixBy::Batch => vec![draw(step); n],
        MixBy::Prompt => (0..n as u64).map(|i| draw(step * n as u64 + i)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(student: f64, label: f64, teacher: f64, by: MixBy) -> MixConfig {
        MixConfig { student, label, teacher, by }
    }

    #[test]
    fn shares_are_met() {
        let mix = mix(1.0, 0.5, 0.5, MixBy::Prompt);
        let drawn: Vec<Author> = (0..250).flat_map(|step| authors(&mix, 3, step, 32)).collect();
        for (author, share) in
            [(Author::Student, 0.5), (Author::Label, 0.25), (Author::Teacher, 0.25)]
        {
            let n = drawn.iter().filter(|&&drawn| drawn == author).count() as f64;
            let got = n / drawn.len() as f64;
            assert!((got - share).abs() < 0.02, "{author:?}: {got}, expected {share}");
        }
    }

    #[test]
    fn pure_shares_are_pure() {
        for by in [MixBy::Prompt, MixBy::Batch] {
            for (mix, author) in [
                (mix(1.0, 0.0, 0.0, by), Author::Student),
                (mix(0.0, 0.2, 0.0, by), Author::Label),
                (mix(0.0, 0.0, 7.0, by), Author::Teacher),
            ] {
                assert!((0..50).flat_map(|s| authors(&mix, 1, s, 8)).all(|a| a == author));
            }
        }
    }

    #[test]
    fn a_batch_has_one_author_and_steps_differ() {
        let mix = mix(0.5, 0.0, 0.5, MixBy::Batch);
        let steps: Vec<Vec<Author>> = (0..40).map(|step| authors(&mix, 0, step, 6)).collect();
        assert!(steps.iter().all(|step| step.iter().all(|author| *author == step[0])));
        let teachers = steps.iter().filter(|step| step[0] == Author::Teacher).count();
        assert!((10..30).contains(&teachers), "{teachers} of 40");
    }

    #[test]
    fn a_draw_depends_on_seed_step_and_place_alone() {
        let mix = mix(0.4, 0.3, 0.3, MixBy::Prompt);
        assert_eq!(authors(&mix, 9, 4, 16), authors(&mix, 9, 4, 16));
        assert_ne!(authors(&mix, 9, 4, 16), authors(&mix, 9, 5, 16));
        assert_ne!(authors(&mix, 9, 4, 16), authors(&mix, 8, 4, 16));
    }
}
