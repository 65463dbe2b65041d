use opd_advantage::{Gae, RawReward, ReinforcePlusPlus};
use proptest::prelude::*;

use crate::random::{advantages, assert_close, batches, with_scored};

proptest! {
    #[test]
    fn gae_with_gamma_1_and_lambda_1_is_return_less_value(rows in batches(), kl_coef in 0.0..1.0f32) {
        let gae = Gae { kl_coef, ..Gae::default() };
        let got = with_scored(&rows, |scored| gae.estimate(scored).unwrap());
        for ((_, reward, tokens), (advantages, returns)) in
            rows.iter().zip(got.advantages.iter().zip(got.returns.iter()))
        {
            for (t, token) in tokens.iter().enumerate() {
                let penalties = tokens[t..].iter().map(|token| token.old - token.reference);
                let expected = reward - kl_coef * penalties.sum::<f32>();
                assert_close("return", &returns[t..=t], &[expected], 1e-5);
                assert_close("advantage", &advantages[t..=t], &[expected - token.value], 1e-5);
            }
        }
    }

    #[test]
    fn gae_with_lambda_0_is_the_one_step_error(rows in batches(), gamma in 0.0..1.0f32) {
        let got = advantages(&Gae { gamma, lambda: 0.0, ..Gae::default() }, &rows);
        for ((_, reward, tokens), got) in rows.iter().zip(got.iter()) {
            for (t, token) in tokens.iter().enumerate() {
                let ahead = tokens.get(t + 1).map_or(*reward, |next| gamma * next.value);
                assert_close("delta", &got[t..=t], &[ahead - token.value], 1e-5);
            }
        }
    }

    #[test]
    fn exact_values_leave_gae_nothing_to_say(mut rows in batches(), gamma in 0.1..1.0f32) {
        for (_, reward, tokens) in &mut rows {
            let n = tokens.len();
            for (t, token) in tokens.iter_mut().enumerate() {
                token.value = *reward * gamma.powi((n - 1 - t) as i32);
            }
        }
        let got = advantages(&Gae { gamma, lambda: 0.7, ..Gae::default() }, &rows);
        assert_close("exact critic", got.values(), &vec![0.0; got.values().len()], 1e-5);
    }

    #[test]
    fn reinforce_plus_plus_without_discount_or_kl_broadcasts_the_reward(mut rows in batches()) {
        for (_, _, tokens) in &mut rows {
            if let Some(last) = tokens.last_mut() {
                last.mask = true;
            }
        }
        let got = advantages(&ReinforcePlusPlus::default(), &rows);
        prop_assert_eq!(got, advantages(&RawReward, &rows));
    }
}
