//! The value head: its gradients against central differences, its file, and threads.

use candle_core::{DType, Device, Tensor, Var};
use opd_models::{CausalLm, Checkpointing, Error, Gradients, ValueHead};
use opd_testkit::{
    GoldenModel, assert_close, assert_gradient, host, numbers, same_on_any_number_of_threads,
    tensor,
};

use super::{eight, load, sequences};

const ROWS: usize = 7;
const WIDTH: usize = 5;

/// A head in f64 whose bias is not 0.
fn head(width: usize) -> ValueHead {
    let head = ValueHead::random(width, 3, DType::F64, &Device::Cpu).unwrap();
    for (parameter, values) in head.parameters().iter().zip([numbers(width, 8, 0.7), vec![0.3]]) {
        let var = parameter.var();
        var.set(&tensor(&values, var.dims(), DType::F64)).unwrap();
    }
    head
}

fn vars(head: &ValueHead) -> Vec<Var> {
    head.parameters().iter().map(|parameter| parameter.var().clone()).collect()
}

/// `sum_t c_t tanh(v_t)`: no gradient is the same for two tokens.
fn loss(values: &Tensor) -> Tensor {
    let n = values.elem_count();
    (values.tanh().unwrap() * tensor(&numbers(n, 9, 1.0), n, DType::F64))
        .unwrap()
        .sum_all()
        .unwrap()
}

#[test]
fn values_are_a_product_and_a_bias() {
    let head = head(WIDTH);
    let hidden = numbers(ROWS * WIDTH, 4, 1.0);
    let (weight, bias) = (numbers(WIDTH, 8, 0.7), 0.3);
    let rows = hidden.chunks(WIDTH);
    let by_hand: Vec<f64> =
        rows.map(|row| bias + row.iter().zip(&weight).map(|(h, w)| h * w).sum::<f64>()).collect();
    let hidden = tensor(&hidden, (ROWS, WIDTH), DType::F64);
    for values in [head.values(&hidden).unwrap(), head.frozen_values(&hidden).unwrap()] {
        assert_eq!(values.dims(), [ROWS]);
        assert_close(&host(&values), &by_hand, 1e-14);
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    let head = head(WIDTH);
    let states = numbers(ROWS * WIDTH, 4, 1.0);
    let hidden = Var::from_tensor(&tensor(&states, (ROWS, WIDTH), DType::F64)).unwrap();
    let value = || host(&loss(&head.values(&hidden).unwrap()))[0];
    let store = loss(&head.values(hidden.as_tensor()).unwrap()).backward().unwrap();
    for var in vars(&head).iter().chain([&hidden]) {
        let start = host(var.as_tensor());
        let gradient = host(store.get(var.as_tensor()).unwrap());
        assert!(gradient.iter().all(|g| g.abs() > 1e-4), "{gradient:?}");
        assert_gradient(&gradient, &start, 1e-9, |moved| {
            var.set(&tensor(moved, var.dims(), DType::F64)).unwrap();
            value()
        });
        var.set(&tensor(&start, var.dims(), DType::F64)).unwrap();
    }
    let frozen = loss(&head.frozen_values(hidden.as_tensor()).unwrap()).backward().unwrap();
    let of_hidden = |store: &candle_core::backprop::GradStore| host(store.get(&hidden).unwrap());
    assert_eq!(of_hidden(&frozen), of_hidden(&store));
    assert!(vars(&head).iter().all(|var| frozen.get(var).is_none()));
}

/// Gradients of a critic on a model: by name, the model's and the head's.
fn critic_gradients(model: &CausalLm, head: &ValueHead) -> Vec<(String, Vec<f64>)> {
    let pairs = eight();
    let packed = model.pack(&sequences(&pairs)).unwrap();
    let mut of_model = Gradients::new(model.parameters());
    let mut of_head = Gradients::new(head.parameters());
    let beside = Some((head.parameters(), &mut of_head));
    model
        .differentiate_with::<_, Error>(
            &packed,
            Checkpointing::Off,
            &mut of_model,
            beside,
            |hidden, _| Ok((loss(&head.values(hidden)?), ())),
        )
        .unwrap();
    let parameters = model.parameters().joined(head.parameters());
    let gradients = of_model.joined(of_head);
    let named = parameters.iter().zip(gradients.iter());
    let named = named.filter_map(|(parameter, g)| Some((parameter.name(), host(g?))));
    named.collect()
}

#[test]
fn every_parameter_of_a_critic_gets_the_gradient_that_differences_give() {
    for golden in GoldenModel::all() {
        let model = load(&golden.dir, DType::F64);
        let head = head(model.config().hidden_size);
        let pairs = eight();
        let value = || {
            let packed = model.pack(&sequences(&pairs)).unwrap();
            host(&loss(&head.values(&model.hidden(&packed).unwrap()).unwrap()))[0]
        };
        let gradients = critic_gradients(&model, &head);
        let parameters = model.parameters().joined(head.parameters());
        let names: Vec<String> = parameters.iter().map(|parameter| parameter.name()).collect();
        let mut expected = names.clone();
        // A critic has no use for the language model's head, unless it is the embedding.
        expected.retain(|name| name != "lm_head.weight");
        let got: Vec<&String> = gradients.iter().map(|(name, _)| name).collect();
        assert_eq!(got, expected.iter().collect::<Vec<_>>());
        for (name, gradient) in &gradients {
            let length = super::norm(gradient);
            assert!(length > 1e-7, "{name} gets no gradient");
            let parameter = parameters.iter().find(|p| p.name() == *name).unwrap();
            let (var, start) = (parameter.var(), host(&parameter.tensor()));
            let at = |step: f64| {
                let moved: Vec<f64> =
                    start.iter().zip(gradient).map(|(x, g)| x + step * g / length).collect();
                var.set(&tensor(&moved, var.dims(), DType::F64)).unwrap();
                value()
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            var.set(&tensor(&start, var.dims(), DType::F64)).unwrap();
            let off = (slope - length).abs();
            assert!(off < 1e-6 * length.max(1.0), "{name}: {length}, not {slope}");
        }
    }
}

#[test]
fn the_same_values_and_gradients_on_any_number_of_threads_and_in_any_chunks() {
    let model = load(&GoldenModel::load("qwen3_tied").dir, DType::F32);
    let width = model.config().hidden_size;
    let head = ValueHead::random(width, 3, DType::F32, &Device::Cpu).unwrap();
    let pairs = eight();
    let all = model.sequence_values(&head, &sequences(&pairs), 8192).unwrap();
    assert_eq!(all.len(), pairs.iter().map(|(_, response)| response.len()).sum::<usize>());
    for budget in [1, 30, 75] {
        assert_eq!(model.sequence_values(&head, &sequences(&pairs), budget).unwrap(), all);
    }
    let packed = model.pack(&sequences(&pairs)).unwrap();
    same_on_any_number_of_threads(|| {
        let mut gradients = Gradients::new(head.parameters());
        let mut of_model = Gradients::new(model.parameters());
        let beside = Some((head.parameters(), &mut gradients));
        let values = model
            .differentiate_with::<_, Error>(
                &packed,
                Checkpointing::Off,
                &mut of_model,
                beside,
                |hidden, _| {
                    let values = head.values(hidden)?;
                    Ok((values.sqr()?.sum_all()?, host(&values)))
                },
            )
            .unwrap();
        let gradients = gradients.iter().chain(of_model.iter()).flatten().map(host);
        gradients.chain([values]).collect()
    });
}

#[test]
fn a_head_survives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let saved = ValueHead::random(WIDTH, 3, DType::F32, &Device::Cpu).unwrap();
    saved.save(dir.path()).unwrap();
    let bits = |head: &ValueHead| -> Vec<Vec<f64>> {
        head.parameters().iter().map(|parameter| host(&parameter.tensor())).collect()
    };
    let read = ValueHead::load(dir.path(), WIDTH, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(bits(&read), bits(&saved));
    let other = ValueHead::random(WIDTH, 4, DType::F32, &Device::Cpu).unwrap();
    assert_ne!(bits(&other), bits(&saved));
    other.reload(dir.path()).unwrap();
    assert_eq!(bits(&other), bits(&saved));
    let wide = ValueHead::load(dir.path(), WIDTH + 1, DType::F32, &Device::Cpu).unwrap_err();
    let message = wide.to_string();
    assert!(message.contains("`value_head.weight` has shape [1, 5]"), "{message}");
    let none = tempfile::tempdir().unwrap();
    let missing = ValueHead::load(none.path(), WIDTH, DType::F32, &Device::Cpu).unwrap_err();
    assert!(missing.to_string().contains("value_head.safetensors: cannot read"), "{missing}");
}

#[test]
fn a_first_head_says_little() {
    let width = 4096;
    let head = ValueHead::random(width, 1, DType::F32, &Device::Cpu).unwrap();
    let hidden = Tensor::ones((1, width), DType::F32, &Device::Cpu).unwrap();
    let value = host(&head.values(&hidden).unwrap())[0];
    assert!(value.abs() < 5.0 / (width as f64).sqrt(), "{value}");
}
