//! Models by their names on the hub, from a server of our own.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use candle_core::{DType, Device};
use opd_models::{CausalLm, Error, Hub, HubId};
use opd_testkit::{COMMIT, GoldenModel, HubStub, ModelDir};

const REPO: &str = "somebody/Tiny-Qwen3";

/// A model, with files that are of no use here.
fn published() -> ModelDir {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_yarn").dir);
    dir.write_tokenizer(&["?", "a"]);
    for name in ["pytorch_model.bin", "README.md", "model.onnx"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    dir
}

fn id(revision: &str) -> HubId {
    HubId { repo: REPO.into(), revision: revision.into() }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn message(error: &Error, url: &str) -> String {
    error.to_string().replace(url, "URL")
}

#[test]
fn a_model_is_fetched_once_and_found_again_without_the_server() {
    let (published, cache) = (published(), tempfile::tempdir().unwrap());
    let stub = HubStub::start(REPO, published.path(), None);
    let hub = Hub::new(stub.url(), cache.path());
    let dir = hub.fetch(&id("main")).unwrap();
    assert!(dir.ends_with(Path::new("models--somebody--Tiny-Qwen3/snapshots").join(COMMIT)));
    let wanted = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
    assert_eq!(names(&dir), wanted);
    for name in wanted {
        assert!(
            fs::read(dir.join(name)).unwrap() == fs::read(published.path().join(name)).unwrap()
        );
    }
    CausalLm::load(&dir, DType::F32, &Device::Cpu).unwrap();

    // A second time: what there is, and nothing else.
    let before = stub.asked().len();
    assert_eq!(hub.fetch(&id("main")).unwrap(), dir);
    assert_eq!(stub.asked()[before..], [format!("/api/models/{REPO}/revision/main")]);
    assert_eq!(hub.fetch(&id(COMMIT)).unwrap(), dir);

    let before = stub.asked().len();
    let offline = hub.offline();
    assert_eq!(offline.fetch(&id("main")).unwrap(), dir);
    assert_eq!(offline.fetch(&id(COMMIT)).unwrap(), dir);
    assert_eq!(stub.asked().len(), before);
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    assert!(offline.fetch(&id("main")).is_err());
}

#[test]
fn shards_are_fetched_as_the_index_names_them() {
    let published = published();
    let path = |name: &str| published.path().join(name);
    let tensors = candle_core::safetensors::load(path("model.safetensors"), &Device::Cpu).unwrap();
    let mut weight_map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let shard = format!("model-{i:05}-of-{:05}.safetensors", tensors.len());
        tensor.save_safetensors(name, path(&shard)).unwrap();
        weight_map.insert(name.clone(), shard.into());
    }
    fs::remove_file(path("model.safetensors")).unwrap();
    let index = serde_json::json!({ "weight_map": weight_map }).to_string();
    fs::write(path("model.safetensors.index.json"), index).unwrap();
    fs::write(path("other.safetensors"), "x").unwrap();

    let (cache, stub) =
        (tempfile::tempdir().unwrap(), HubStub::start(REPO, published.path(), None));
    let dir = Hub::new(stub.url(), cache.path()).fetch(&id("main")).unwrap();
    assert!(!dir.join("other.safetensors").exists());
    let model = CausalLm::load(&dir, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(model.parameters().len(), load_of("qwen3_yarn").parameters().len());
}

fn load_of(name: &str) -> CausalLm {
    CausalLm::load(GoldenModel::load(name).dir, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_key_is_sent_and_its_lack_is_named() {
    let (published, cache) = (published(), tempfile::tempdir().unwrap());
    let stub = HubStub::start(REPO, published.path(), Some("secret"));
    let hub = Hub::new(stub.url(), cache.path());
    let error = hub.fetch(&id("main")).unwrap_err();
    let text = message(&error, &stub.url());
    assert!(text.starts_with("somebody/Tiny-Qwen3@main of URL: "), "{text}");
    assert!(
        text.ends_with(
            "; there is no such model, or it is not public: set HF_TOKEN to a key that may read it"
        ),
        "{text}"
    );
    hub.with_token("secret").fetch(&id("main")).unwrap();
}

#[test]
fn what_is_not_there_is_named_with_a_remedy() {
    let (published, cache) = (published(), tempfile::tempdir().unwrap());
    let stub = HubStub::start(REPO, published.path(), None);
    let hub = Hub::new(stub.url(), cache.path());
    let text = message(&hub.fetch(&id("v9")).unwrap_err(), &stub.url());
    assert!(text.contains("404"), "{text}");
    assert!(
        text.ends_with(
            "; check the name and the revision; a directory must exist to be taken as one"
        ),
        "{text}"
    );

    let text = message(&hub.clone().offline().fetch(&id("main")).unwrap_err(), &stub.url());
    assert_eq!(
        text,
        "somebody/Tiny-Qwen3@main of URL: the cache does not have it, and HF_HUB_OFFLINE forbids \
         to fetch it; fetch it where there is a network (hf download somebody/Tiny-Qwen3 \
         --revision main) and name the directory, or bring the cache along and name it in HF_HOME"
    );

    fs::remove_file(published.path().join("model.safetensors")).unwrap();
    fs::write(published.path().join("a.gguf"), "x").unwrap();
    let text = message(&hub.fetch(&id("main")).unwrap_err(), &stub.url());
    assert!(
        text.contains(
            "the repository has no safetensors weights; download one of its GGUF files and name it"
        ),
        "{text}"
    );
}

#[test]
fn a_server_that_is_away_is_named_with_what_the_cache_has() {
    let (published, cache) = (published(), tempfile::tempdir().unwrap());
    let stub = HubStub::start(REPO, published.path(), None);
    let url = stub.url();
    Hub::new(&url, cache.path()).fetch(&id("main")).unwrap();
    drop(stub);
    let text = |cache: &Path| message(&Hub::new(&url, cache).fetch(&id("main")).unwrap_err(), &url);
    let cached = text(cache.path());
    assert!(cached.ends_with("; the cache has a copy: HF_HUB_OFFLINE=1 takes it"), "{cached}");
    let empty = tempfile::tempdir().unwrap();
    let nothing = text(empty.path());
    assert!(nothing.contains("; fetch it where there is a network (hf download "), "{nothing}");
}
