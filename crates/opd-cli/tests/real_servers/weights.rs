use std::path::Path;

use candle_core::{DType, Device};
use opd_models::CausalLm;
use serde_json::json;

use crate::{
    scores::{agree, groups, in_process},
    server::{Server, settings},
};

/// Other weights are another identity, and its scores are theirs: in a running SGLang, and in a
/// vLLM that is started anew. (After a reload the CPU build of vLLM 0.32.0 scores by neither the old
/// weights nor the new: of the running one only the identity is looked at.)
pub(crate) fn new_weights_are_a_new_identity(server: &mut Server, model: &Path, work: &Path) {
    let dir = work.join("second");
    CausalLm::random(model, 7, DType::F32, &Device::Cpu).unwrap().save(&dir).unwrap();
    let local = in_process(&dir);
    let vocab = local.model().config().vocab_size;
    let (teacher, _) = (server.kind.connect)(&server.url(), settings(vocab)).unwrap();
    let before = teacher.identity().unwrap();
    match server.kind.name {
        "sglang" => {
            let order = json!({ "model_path": dir, "weight_version": "second" });
            server.order("/update_weights_from_disk", &order);
        }
        _ => {
            server.order("/pause", &json!({}));
            let order = json!({ "method": "reload_weights", "kwargs": { "weights_path": dir } });
            server.order("/collective_rpc", &order);
            server.order("/reset_prefix_cache", &json!({}));
            server.order("/update_weight_version", &json!({ "new_version": "second" }));
            server.order("/resume", &json!({}));
        }
    }
    let after = teacher.identity().unwrap();
    assert!(before != after && after.contains("second"), "{before}, then {after}");
    if server.kind.name == "sglang" {
        return agree(&*teacher, &local, &groups(10, vocab), "new weights");
    }
    server.kill();
    server.start_again_with(&dir);
    let (teacher, _) = (server.kind.connect)(&server.url(), settings(vocab)).unwrap();
    assert_ne!(teacher.identity().unwrap(), before);
    agree(&*teacher, &local, &groups(10, vocab), "new weights");
}
