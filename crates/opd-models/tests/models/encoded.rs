//! Models whose matrices stay as their files have them, or are held as products read them: the bits
//! of those that are loaded in f32.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{D, DType, Device, Tensor};
use opd_kernels::{Products, Span, Spans, Weight};
use opd_models::{
    CausalLm, Checkpointing, Decoder, Error, Footprint, Gradients, KvCache, LoraConfig, LoraTarget,
    encoded_bytes,
};
use opd_testkit::{GoldenModel, ModelDir, host};

use super::{Pair, eight, gradient, load, logprobs, sequences, within};

/// The weights of a model in another dtype.
fn converted(golden: &GoldenModel, dtype: DType) -> ModelDir {
    let dir = ModelDir::copy(&golden.dir);
    let path = dir.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let tensors = tensors.into_iter().map(|(name, x)| (name, x.to_dtype(dtype).unwrap()));
    candle_core::safetensors::save(&tensors.collect::<HashMap<_, _>>(), &path).unwrap();
    dir
}

fn gguf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf_files").join(format!("{name}.gguf"))
}

/// Calls `check` with every tiny model of every architecture, in bf16, f16 and quantized types.
fn for_each_model(check: impl Fn(&Path, &str)) {
    for golden in GoldenModel::all().chain(GoldenModel::mixtures()) {
        for dtype in [DType::BF16, DType::F16] {
            let dir = converted(&golden, dtype);
            check(dir.path(), &format!("{} in {dtype:?}", golden.dir.display()));
        }
    }
    for name in ["llama", "llama3", "qwen2", "qwen3"] {
        check(&gguf(name), name);
    }
}

fn encoded(path: &Path) -> CausalLm {
    CausalLm::load_encoded(path).unwrap()
}

fn pairs(model: &CausalLm) -> Vec<Pair> {
    within(model.config().vocab_size, eight())
}

/// The likeliest tokens one after the other, over a cache.
fn greedy(decoder: &Decoder<'_>, n: usize) -> Vec<u32> {
    let (config, mut tokens) = (decoder.model().config(), vec![5u32, 6, 7]);
    let cache = KvCache::new(config, 40, DType::F32, &Device::Cpu).unwrap();
    let mut read = 0;
    for _ in 0..n {
        let new = read..tokens.len();
        let span = Span { queries: 0..new.len(), prefix: 0..read, keys: new.clone() };
        let spans = Spans::new(vec![span], new.len(), 40).unwrap();
        let positions: Vec<u32> = new.clone().map(|i| i as u32).collect();
        let rows: Vec<usize> = new.clone().collect();
        let hidden = decoder.hidden(&tokens[new], &positions, &rows, &spans, &cache).unwrap();
        let logits = decoder.logits(&hidden).unwrap();
        read = tokens.len();
        tokens.push(*logits.argmax(D::Minus1).unwrap().to_vec1::<u32>().unwrap().last().unwrap());
    }
    tokens
}

#[test]
fn scores_and_greedy_continuations_are_those_in_f32() {
    for_each_model(|path, what| {
        for products in [Products::Full, Products::Bf16] {
            let [full, stored] = [load(path, DType::F32), encoded(path)]
                .map(|model| model.with_products(products).unwrap());
            let pairs = pairs(&full);
            assert!(logprobs(&stored, &pairs, 0.9) == logprobs(&full, &pairs, 0.9), "{what}");
            let want = greedy(&Decoder::new(&full), 24);
            assert_eq!(greedy(&Decoder::new(&stored), 24), want, "{what}");
            assert_eq!(greedy(&Decoder::packed(&stored).unwrap(), 24), want, "{what}");
        }
    });
}

#[test]
fn frozen_models_have_the_bits_of_those_in_f32() {
    let check = |path: &Path, what: &str| {
        for products in [Products::Full, Products::Bf16] {
            let full = load(path, DType::F32).with_products(products).unwrap();
            let pairs = pairs(&full);
            let scores = logprobs(&full, &pairs, 0.9);
            let tokens = greedy(&Decoder::new(&full), 24);
            for stored in [true, false] {
                let frozen = CausalLm::load_frozen(path, products, stored).unwrap();
                assert!(logprobs(&frozen, &pairs, 0.9) == scores, "{what} {products:?}");
                assert_eq!(greedy(&Decoder::new(&frozen), 24), tokens, "{what} {products:?}");
                let packed = Decoder::packed(&frozen).unwrap();
                assert_eq!(greedy(&packed, 24), tokens, "{what} {products:?}");
                assert_eq!(frozen.n_weights(), full.n_weights(), "{what}");
            }
        }
    };
    for golden in GoldenModel::all().chain(GoldenModel::mixtures()) {
        check(&golden.dir, &golden.dir.display().to_string());
    }
    for_each_model(check);
}

fn assert_held_once(frozen: &CausalLm, products: Products) {
    let want = Footprint::of(frozen.config(), products).frozen();
    let (held, what) = (frozen.weight_bytes(), frozen.source().display());
    // Rows of tiny matrices fill whole vectors.
    assert!(held >= want && held <= want + want / 8, "{what}: {held}, {want} expected");
}

#[test]
fn a_frozen_model_is_held_once() {
    for golden in GoldenModel::all() {
        let (path, what) = (&golden.dir, golden.dir.display());
        for products in [Products::Full, Products::Bf16] {
            let frozen = CausalLm::load_frozen(path, products, true).unwrap();
            assert_held_once(&frozen, products);
            // A table that embeds and is no head is not multiplied.
            let plain = !frozen.config().tie_word_embeddings && products == Products::Full;
            let matrices = frozen.parameters().iter().filter(|p| p.var().rank() > 1);
            assert_eq!(matrices.count(), usize::from(plain));
        }
        // What it writes is what it was.
        let frozen = CausalLm::load_frozen(path, Products::Full, true).unwrap();
        let saved = tempfile::tempdir().unwrap();
        frozen.save(saved.path()).unwrap();
        let (again, full) = (load(saved.path(), DType::F32), load(path, DType::F32));
        let pairs = pairs(&full);
        assert!(logprobs(&again, &pairs, 1.0) == logprobs(&full, &pairs, 1.0), "{what}");
    }
}

#[test]
fn a_frozen_mixture_is_held_once() {
    for golden in GoldenModel::mixtures() {
        for products in [Products::Full, Products::Bf16] {
            let frozen = CausalLm::load_frozen(&golden.dir, products, true).unwrap();
            assert_held_once(&frozen, products);
        }
    }
}

#[test]
fn what_is_held_is_what_the_files_take() {
    for_each_model(|path, what| {
        let (full, stored) = (load(path, DType::F32), encoded(path));
        assert_eq!(stored.n_weights(), full.n_weights(), "{what}");
        let (all, held) = (full.weight_bytes(), stored.weight_bytes());
        // Tiny models have much in norms and tables of short rows, which quantizing leaves wide.
        assert!(held < all * 7 / 10, "{what}: {held} of {all}");
        assert_eq!(encoded_bytes(path).unwrap(), Some(held), "{what}");
        let saved = tempfile::tempdir().unwrap();
        stored.save(saved.path()).unwrap();
        let again = load(saved.path(), DType::F32);
        assert_eq!(again.n_weights(), full.n_weights(), "{what}");
        let pairs = pairs(&full);
        assert!(logprobs(&again, &pairs, 1.0) == logprobs(&full, &pairs, 1.0), "{what}");
    });
}

#[test]
fn an_estimate_of_weights_is_what_the_tensors_take() {
    for golden in GoldenModel::all().chain(GoldenModel::mixtures()) {
        let model = load(&golden.dir, DType::F32);
        let footprint = Footprint::of(model.config(), Products::Full);
        assert_eq!(footprint.weights(), model.weight_bytes(), "{}", golden.dir.display());
    }
}

#[test]
fn files_in_f32_are_loaded_as_ever() {
    let golden = GoldenModel::load("qwen3_tied");
    let model = encoded(&golden.dir);
    assert!(matches!(model.head().weight, opd_kernels::WeightRef::Tensor(_)));
    assert_eq!(encoded_bytes(&golden.dir).unwrap(), Some(model.weight_bytes()));
    // A file of both: what stays is what is narrow.
    let dir = ModelDir::copy(&golden.dir);
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for name in ["model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.down_proj.weight"] {
        let narrow = tensors[name].to_dtype(DType::BF16).unwrap();
        tensors.insert(name.to_owned(), narrow);
    }
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let (full, stored) = (load(dir.path(), DType::F32), encoded(dir.path()));
    assert!(logprobs(&stored, &eight(), 1.0) == logprobs(&full, &eight(), 1.0));
    let down = tensors["model.layers.1.mlp.down_proj.weight"].elem_count() as u64;
    assert_eq!(stored.weight_bytes(), full.weight_bytes() - 2 * down);
}

#[test]
fn it_is_trained_under_adapters_alone() {
    let dir = converted(&GoldenModel::load("llama3_rope_untied"), DType::BF16);
    let stored = encoded(dir.path());
    let packed = stored.pack(&sequences(&eight())).unwrap();
    let mut gradients = Gradients::new(stored.parameters());
    let refused = |error: Error, action: &str| {
        let name = "model.embed_tokens.weight";
        let remedy = "load the model in f32, or train adapters on it";
        let path = dir.path().display();
        let expected =
            format!("{path}: `{name}` is held for reading alone and cannot be {action}; {remedy}");
        assert_eq!(error.to_string(), expected);
    };
    let trained =
        stored.differentiate::<(), Error>(&packed, Checkpointing::Off, &mut gradients, |_, _| {
            unreachable!("refused before")
        });
    refused(trained.unwrap_err(), "trained");
    refused(stored.reload(dir.path()).unwrap_err(), "replaced");

    let config =
        LoraConfig { rank: 3, alpha: 3.0, targets: LoraTarget::ALL.to_vec(), rslora: false };
    for products in [Products::Full, Products::Bf16] {
        let [full, stored] = [load(dir.path(), DType::F32), encoded(dir.path())].map(|model| {
            let model = model.with_products(products).unwrap().with_lora(&config, 1).unwrap();
            for (i, parameter) in model.parameters().iter().enumerate() {
                let var = parameter.var();
                let noise = opd_testkit::numbers(var.elem_count(), 40 + i as u64, 0.1);
                var.set(&opd_testkit::tensor(&noise, var.dims(), DType::F32)).unwrap();
            }
            model
        });
        let weights = vec![1.0; packed.targets().elem_count()];
        for checkpointing in [Checkpointing::Off, Checkpointing::PerLayer] {
            let want = gradient(&full, &eight(), &weights, checkpointing);
            assert!(gradient(&stored, &eight(), &weights, checkpointing) == want);
        }
        let saved = [&full, &stored].map(|model| {
            let dir = tempfile::tempdir().unwrap();
            model.save(dir.path()).unwrap();
            let path = dir.path().join("model.safetensors");
            candle_core::safetensors::load(path, &Device::Cpu).unwrap()
        });
        assert_eq!(saved[0].len(), saved[1].len());
        assert!(saved[0].iter().all(|(name, want)| host(want) == host(&saved[1][name])));
    }
}

#[test]
fn damaged_files_are_refused_as_ever() {
    let same = |path: &Path| {
        let want = CausalLm::load(path, DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert_eq!(CausalLm::load_encoded(path).unwrap_err().to_string(), want);
    };
    let dir = converted(&GoldenModel::load("qwen3_tied"), DType::BF16);
    let path = dir.path().join("model.safetensors");
    let whole = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for name in ["model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight"] {
        let mut fewer = whole.clone();
        let taken: Tensor = fewer.remove(name).unwrap();
        candle_core::safetensors::save(&fewer, &path).unwrap();
        same(dir.path());
        let turned = taken.t().unwrap().contiguous().unwrap();
        fewer.insert(name.to_owned(), turned);
        candle_core::safetensors::save(&fewer, &path).unwrap();
        same(dir.path());
    }
    let file = tempfile::tempdir().unwrap();
    let cut = file.path().join("model.gguf");
    let bytes = fs::read(gguf("llama")).unwrap();
    for size in [100, 9000, bytes.len() - 1] {
        fs::write(&cut, &bytes[..size]).unwrap();
        same(&cut);
    }
    let mut other = bytes.clone();
    let name = b"blk.1.ffn_up";
    let at = other.windows(name.len()).position(|part| part == name).unwrap();
    other[at + 9] = b'i';
    fs::write(&cut, other).unwrap();
    same(&cut);
}

#[test]
fn quantized_blocks_stay_in_place() {
    let stored = encoded(&gguf("llama"));
    let Weight::Encoded(head) = stored.head().weight.detach() else {
        panic!("the head of a quantized model is encoded")
    };
    let vocab = stored.config().vocab_size;
    assert_eq!(head.dims(), &[vocab, stored.config().hidden_size]);
}
