//! Names of the KL estimators in configuration files.
#![cfg(feature = "serde")]
#![allow(clippy::unwrap_used)]

use opd_batch::KlEstimator;

#[test]
fn kl_estimators_by_name() {
    let all = [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::LowVar];
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(json, r#"["k1","k2","k3","low_var"]"#);
    assert_eq!(serde_json::from_str::<[KlEstimator; 4]>(&json).unwrap(), all);
    let message = serde_json::from_str::<KlEstimator>(r#""k4""#).unwrap_err().to_string();
    assert!(message.contains("unknown variant `k4`"), "{message}");
}
