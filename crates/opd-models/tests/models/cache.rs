//! One token at a time over a cache: the bits of the packed forward.

use candle_core::{DType, Device};
use opd_kernels::{Products, Span, Spans};
use opd_models::{Decoder, KvCache};
use opd_testkit::{GoldenModel, host};

use super::{load, sequences, tokens};

#[test]
fn a_cached_forward_has_the_bits_of_the_packed_one() {
    for golden in GoldenModel::all() {
        let kinds = [false, true].map(|copied| {
            [
                (DType::F32, false, copied, Products::Full),
                (DType::F64, false, copied, Products::Full),
                (DType::F32, true, copied, Products::Full),
                (DType::F32, false, copied, Products::Bf16),
            ]
        });
        for (dtype, adapted, copied, products) in kinds.concat() {
            let model = load(&golden.dir, dtype).with_products(products).unwrap();
            let model = if adapted { super::lora::adapted(model) } else { model };
            let decoder =
                if copied { Decoder::packed(&model).unwrap() } else { Decoder::new(&model) };
            let cache = KvCache::new(model.config(), 40, dtype, &Device::Cpu).unwrap();
            // Two responses to one prompt: its rows, then the slots' rows with a gap.
            let prompt = tokens(5, 1);
            let responses = [tokens(9, 2), tokens(6, 3)];
            let slots = [12, 30];
            let pairs = responses.clone().map(|response| (prompt.clone(), response));
            let packed = model.pack(&sequences(&pairs)).unwrap();
            let want = host(&model.hidden(&packed).unwrap());
            let width = model.config().hidden_size;

            let keys = 3..8;
            let span = Span { queries: 0..5, prefix: 0..0, keys: keys.clone() };
            let spans = Spans::new(vec![span], 5, 40).unwrap();
            let rows: Vec<usize> = keys.clone().collect();
            let positions: Vec<u32> = (0..5).collect();
            let hidden = decoder.hidden(&prompt, &positions, &rows, &spans, &cache).unwrap();
            let first = host(&hidden)[4 * width..].to_vec();
            let mut got = [first.clone(), first];
            for t in 0..8 {
                let running: Vec<usize> = (0..2).filter(|&i| t + 1 < responses[i].len()).collect();
                let new: Vec<u32> = running.iter().map(|&i| responses[i][t]).collect();
                let positions = vec![5 + t as u32; running.len()];
                let rows: Vec<usize> = running.iter().map(|&i| slots[i] + t).collect();
                let spans = running.iter().enumerate().map(|(query, &i)| Span {
                    queries: query..query + 1,
                    prefix: keys.clone(),
                    keys: slots[i]..slots[i] + t + 1,
                });
                let spans = Spans::new(spans.collect(), running.len(), 40).unwrap();
                let hidden = decoder.hidden(&new, &positions, &rows, &spans, &cache).unwrap();
                for (values, &i) in host(&hidden).chunks(width).zip(&running) {
                    got[i].extend_from_slice(values);
                }
            }
            assert!(got.concat() == want, "{:?}", golden.dir);
            let logits = decoder.logits(&model.hidden(&packed).unwrap()).unwrap();
            let plain =
                products.linear(&model.hidden(&packed).unwrap(), model.head().weight).unwrap();
            assert!(host(&logits) == host(&plain), "{:?}", golden.dir);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let golden = GoldenModel::load("qwen3_tied");
    let model = load(&golden.dir, DType::F32);
    let cache = KvCache::new(model.config(), 4, DType::F32, &Device::Cpu).unwrap();
    let spans = Spans::new(vec![Span { queries: 0..1, prefix: 0..0, keys: 0..1 }], 1, 4).unwrap();
    let run = |tokens: &[u32], positions: &[u32], rows: &[usize], cache: &KvCache| {
        Decoder::new(&model).hidden(tokens, positions, rows, &spans, cache).unwrap_err().to_string()
    };
    assert_eq!(
        run(&[320], &[0], &[0], &cache),
        "embedding: token id 320 at position 0 is outside the vocabulary of 320"
    );
    assert_eq!(
        run(&[1], &[512], &[0], &cache),
        "rotate_heads: position 512 (entry 0) does not exist; there are 512"
    );
    assert_eq!(
        run(&[1], &[0], &[4], &cache),
        "write_rows: cache row 4 (entry 0) does not exist; there are 4"
    );
    assert_eq!(
        run(&[1], &[0, 1], &[0], &cache),
        "rotate_heads: positions must be [T] = [1], got [2]"
    );
    let mut config = model.config().clone();
    config.n_layers = 2;
    let other = KvCache::new(&config, 4, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(
        run(&[1], &[0], &[0], &other),
        "the cache has 2 layers, the model 3; make it from the model's config"
    );
}
