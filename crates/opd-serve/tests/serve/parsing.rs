use opd_serve::{
    Limits,
    wire::{CompletionRequest, GenerateRequest, Rules},
};
use proptest::prelude::*;
use serde_json::{Value, json};

const RULES: Rules<'_> = Rules {
    vocab: 50,
    context: 30,
    limits: Limits {
        max_queue: 4,
        max_body_bytes: 1 << 16,
        max_queued_bytes: 1 << 16,
        max_sequences: 5,
        max_entries: 2000,
        max_connections: 4,
        read_timeout: std::time::Duration::from_secs(1),
    },
    tokenizer: None,
};

/// Reads and checks as both kinds of request; what passes keeps to the rules.
pub(crate) fn read(body: &[u8]) -> (bool, bool) {
    let keeps = |items: &[opd_serve::Item]| {
        let entries: usize = items.iter().map(|item| item.n_scored() * (1 + item.top)).sum();
        assert!(entries <= RULES.limits.max_entries && items.len() <= RULES.limits.max_sequences);
        for item in items {
            assert!((1..=RULES.context).contains(&item.tokens.len()));
            assert!(item.tokens.iter().all(|&id| (id as usize) < RULES.vocab));
            assert!(item.start <= item.tokens.len() && item.top <= RULES.vocab);
            assert!(item.temperature > 0.0 && item.temperature.is_finite());
        }
    };
    let generate = GenerateRequest::parse(body).and_then(|r| r.check(&RULES, || 0));
    let completion = CompletionRequest::parse(body).and_then(|r| r.check(&RULES, || 0));
    generate.iter().for_each(|request| keeps(&request.items));
    completion.iter().for_each(|request| keeps(&request.items));
    (generate.is_ok(), completion.is_ok())
}

/// Numbers near every border.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0i64..50).prop_map(|x| json!(x)),
        1 => (-2i64..60).prop_map(|x| json!(x)),
        1 => any::<i64>().prop_map(|x| json!(x)),
        1 => any::<u64>().prop_map(|x| json!(x)),
        1 => any::<f64>().prop_map(|x| json!(x)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => number(),
        1 => any::<bool>().prop_map(|x| json!(x)),
        1 => Just(Value::Null),
        1 => "[a-z]{0,3}".prop_map(|x| json!(x)),
        1 => Just(json!({ "max_new_tokens": 0, "temperature": 1 })),
        1 => Just(json!({ "max_new_tokens": 1 })),
        1 => Just(json!({ "max_new_tokens": 0, "nope": 1 })),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Value::Array))
}

pub(crate) fn request() -> impl Strategy<Value = Value> {
    let ids = prop_oneof![
        prop::collection::vec(number(), 0..8).prop_map(Value::Array),
        prop::collection::vec(prop::collection::vec(number(), 0..8).prop_map(Value::Array), 0..7)
            .prop_map(Value::Array),
        value(),
    ];
    let field = prop::sample::select(vec![
        "text",
        "return_logprob",
        "logprob_start_len",
        "top_logprobs_num",
        "token_ids_logprob",
        "token_ids_logprob_per_position",
        "input_logprob_temperature",
        "rid",
        "stream",
        "sampling_params",
        "max_tokens",
        "temperature",
        "top_k",
        "prompt_logprobs",
        "seed",
        "model",
        "nonsense",
    ]);
    let fields = prop::collection::vec((field, value()), 0..6);
    (ids, fields).prop_map(|(ids, fields)| {
        let mut request = json!({
            "input_ids": ids, "prompt": ids, "max_tokens": 1, "return_logprob": true,
            "sampling_params": { "max_new_tokens": 0 },
        });
        for (field, value) in fields {
            request[field] = value;
        }
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_json_is_read_or_refused(request in request()) {
        read(request.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        request in request(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = request.to_string().into_bytes();
        let place = cut.index(bytes.len());
        bytes[place] = byte;
        read(&bytes);
        bytes.truncate(place);
        prop_assert_eq!(read(&bytes), (false, false));
    }

    #[test]
    fn well_formed_requests_pass(
        sequences in prop::collection::vec(prop::collection::vec(0u32..50, 1..30), 1..6),
        top in 0usize..10,
    ) {
        let request = json!({
            "input_ids": sequences, "prompt": sequences, "return_logprob": true,
            "logprob_start_len": 0, "top_logprobs_num": top, "prompt_logprobs": top,
            "sampling_params": { "max_new_tokens": 0, "temperature": 1 }, "max_tokens": 0,
        });
        prop_assert_eq!(read(request.to_string().as_bytes()), (true, true));
    }
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", r#"{"input_ids":"#] {
        let body = open.repeat(100_000);
        assert_eq!(read(body.as_bytes()), (false, false));
    }
    let nested = format!(r#"{{"input_ids":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    assert_eq!(read(nested.as_bytes()), (false, false));
}
