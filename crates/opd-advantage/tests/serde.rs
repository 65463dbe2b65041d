//! Settings in configuration files: defaults, names, and unknown keys.
#![cfg(feature = "serde")]
#![allow(clippy::unwrap_used)]

use opd_advantage::{Gae, ReinforcePlusPlus, ReinforcePlusPlusBaseline, ReverseKl};
use opd_batch::KlEstimator;
use serde_json::{from_str, to_string};

#[test]
fn nothing_said_means_the_default() {
    assert_eq!(from_str::<ReverseKl>("{}").unwrap(), ReverseKl { coef: 1.0, discount: 0.0 });
    let (kl_coef, kl) = (0.0, KlEstimator::K1);
    let gae = Gae { kl_coef, kl, gamma: 1.0, lambda: 1.0 };
    assert_eq!(from_str::<Gae>("{}").unwrap(), gae);
    let plain = ReinforcePlusPlus { kl_coef, kl, gamma: 1.0 };
    assert_eq!(from_str::<ReinforcePlusPlus>("{}").unwrap(), plain);
    let baseline = ReinforcePlusPlusBaseline { kl_coef, kl };
    assert_eq!(from_str::<ReinforcePlusPlusBaseline>("{}").unwrap(), baseline);
}

#[test]
fn settings_survive_a_round_trip() {
    let gae = Gae { kl_coef: 0.25, kl: KlEstimator::LowVar, gamma: 0.5, lambda: 0.75 };
    let json = to_string(&gae).unwrap();
    assert_eq!(json, r#"{"kl_coef":0.25,"kl":"low_var","gamma":0.5,"lambda":0.75}"#);
    assert_eq!(from_str::<Gae>(&json).unwrap(), gae);
}

#[test]
fn unknown_keys_are_refused() {
    let message = from_str::<ReverseKl>(r#"{"coeff": 2.0}"#).unwrap_err().to_string();
    assert!(message.contains("unknown field `coeff`, expected `coef` or `discount`"), "{message}");
    assert!(from_str::<Gae>(r#"{"lamda": 1.0}"#).is_err());
    assert!(from_str::<ReinforcePlusPlus>(r#"{"lambda": 1.0}"#).is_err());
    assert!(from_str::<ReinforcePlusPlusBaseline>(r#"{"gamma": 1.0}"#).is_err());
}
