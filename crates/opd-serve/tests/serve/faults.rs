use std::{io::Write, time::Duration};

use opd_serve::{Error, Key, Limits, Options, Running};
use serde_json::{Value, json};

use crate::client::{Site, read, request, with};

fn limits(change: impl FnOnce(&mut Limits)) -> Options {
    let mut limits = Limits::default();
    change(&mut limits);
    Options { limits, ..Options::default() }
}

#[test]
fn a_bad_item_is_named() {
    let site = Site::of("llama_tied", Options::default());
    let long = vec![7; 513];
    for (ids, expected) in [
        (json!([]), "input_ids is empty; a sequence needs at least one token"),
        (json!([[1], []]), "input_ids[1] is empty; a sequence needs at least one token"),
        (
            json!([[1], [2, 320]]),
            "input_ids[1]: token id 320 at place 1 is outside the vocabulary; valid ids are 0 to 319",
        ),
        (
            json!([3, -1]),
            "input_ids: token id -1 at place 1 is outside the vocabulary; valid ids are 0 to 319",
        ),
        (
            json!([99999999999999999999u128 as f64 as u64]),
            "input_ids: token id 9223372036854775807 at place 0 is outside the vocabulary; valid ids are 0 to 319",
        ),
        (
            json!([[1, 2], long, [3]]),
            "input_ids[1]: the input (513 tokens) is longer than the model's context length (512 tokens)",
        ),
        (json!([[[1]]]), "input_ids[0]: expected token ids, got a list of lists"),
    ] {
        let answer = site.post("/generate", &request(ids.clone()));
        assert_eq!(answer.fault(), (400, expected.to_owned()));
        let prompt = json!({ "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0 });
        let answer = site.post("/v1/completions", &prompt);
        let expected = match expected {
            _ if ids == json!([]) => "prompt is empty; send at least one token".to_owned(),
            expected => expected.replace("input_ids", "prompt"),
        };
        assert_eq!(answer.fault(), (400, expected));
    }
    // It still serves.
    site.generate(&request(json!([1, 2, 3])));
}

#[test]
fn what_is_not_offered_is_refused_with_the_reason() {
    let site = Site::of("llama_tied", Options::default());
    let says = |fields: Value| {
        let (status, message) =
            site.post("/generate", &with(request(json!([1, 2, 3])), &fields)).fault();
        assert_eq!(status, 400, "{message}");
        message
    };
    for (fields, expected) in [
        (
            json!({ "sampling_params": { "max_new_tokens": 5 } }),
            "max_new_tokens: this server scores and generates at most one token; expected 0 or 1, got 5",
        ),
        (
            json!({ "sampling_params": {} }),
            "max_new_tokens: this server scores and generates at most one token; expected 0 or 1, got none, which means 128",
        ),
        (
            json!({ "sampling_params": { "max_new_tokens": -1 } }),
            "max_new_tokens must be at least 0, got -1.",
        ),
        (
            json!({ "sampling_params": { "temperature": -1, "max_new_tokens": 0 } }),
            "temperature must be a non-negative finite number, got -1.",
        ),
        (json!({ "stream": true }), "stream: this server scores tokens alone; leave it out"),
        (json!({ "text": "a" }), "text and input_ids: give one of them"),
        (json!({ "input_ids": null }), "Either text or input_ids should be provided."),
        (
            json!({ "input_ids": null, "text": "a" }),
            "text: the model's directory has no tokenizer.json; send token ids",
        ),
        (
            json!({ "logprob_start_len": 4 }),
            "logprob_start_len=4: expected -1, or 0 to the number of input tokens, 3",
        ),
        (
            json!({ "top_logprobs_num": 321 }),
            "top_logprobs_num must be from 0 to the vocabulary of 320, got 321",
        ),
        (
            json!({ "token_ids_logprob": [5, 320] }),
            "token_ids_logprob: token id 320 at place 1 is outside the vocabulary; valid ids are 0 to 319",
        ),
        (
            json!({ "token_ids_logprob": [[1], [2]] }),
            "token_ids_logprob must be a flat list of integers; token_ids_logprob_per_position takes a list for each position",
        ),
        (
            json!({ "token_ids_logprob_per_position": [[1], [2], [3]] }),
            "token_ids_logprob_per_position: expected 2 lists, one for each scored token (those behind logprob_start_len), got 3",
        ),
        (
            json!({ "token_ids_logprob_per_position": [[1], [2, 400]] }),
            "token_ids_logprob_per_position[1]: token id 400 at place 1 is outside the vocabulary; valid ids are 0 to 319",
        ),
        (
            json!({ "return_logprob": [true] }),
            "return_logprob: a list, but the request is of one sequence; give one value",
        ),
        (
            json!({ "input_ids": [[1], [2]], "logprob_start_len": [0, 0, 0] }),
            "logprob_start_len: expected 2 values, one for each sequence, got 3",
        ),
    ] {
        assert_eq!(says(fields), expected);
    }
    let unknown = says(json!({ "sampling_params": { "temprature": 1, "max_new_tokens": 0 } }));
    assert!(
        unknown.starts_with("unknown field `temprature`, expected one of `max_new_tokens`"),
        "{unknown}"
    );
    let kind = says(json!({ "input_ids": "x" }));
    assert!(kind.contains("invalid type: string \"x\", expected a list of token ids"), "{kind}");
    let fraction = says(json!({ "input_ids": [1.5] }));
    assert!(fraction.contains("floating point `1.5`"), "{fraction}");
    let (status, broken) = site.send("POST", "/generate", "", b"{bad").fault();
    assert!(status == 400 && broken.contains("line 1 column 2"), "{broken}");
}

#[test]
fn limits_are_said() {
    let site = Site::of(
        "llama_tied",
        limits(|limits| {
            limits.max_body_bytes = 2000;
            limits.max_sequences = 2;
            limits.max_entries = 100;
        }),
    );
    let large = site.post("/generate", &request(vec![7; 3000]));
    assert_eq!(large.fault(), (413, "The request is larger than 2000 bytes; send several.".into()));
    let many = site.post("/generate", &request(json!([[1], [2], [3]])));
    let expected = "input_ids: 3 sequences, a request may have 2; send several";
    assert_eq!(many.fault(), (400, expected.into()));
    let wide = with(request(json!([1, 2, 3])), &json!({ "top_logprobs_num": 40 }));
    let expected = "the answer would have 123 log-probs, a request may ask for 100; send fewer sequences or ask for fewer ids";
    assert_eq!(site.post("/generate", &wide).fault(), (400, expected.into()));
    // Without a length the body is read up to the limit, and no further.
    let mut stream = site.connect();
    let head = "POST /generate HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..3 {
        let _ = stream.write_all(format!("400\r\n{}\r\n", "7".repeat(1024)).as_bytes());
    }
    assert_eq!(read(&mut stream).status, 413);
}

#[test]
fn a_slow_client_does_not_hold_its_place_for_ever() {
    let site = Site::of(
        "llama_tied",
        limits(|limits| {
            limits.read_timeout = Duration::from_millis(200);
            limits.max_queue = 1;
        }),
    );
    let mut slow = site.connect();
    let head = "POST /generate HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).unwrap();
    let answer = read(&mut slow);
    assert_eq!(answer.fault(), (408, "The request was not sent within 0.2 seconds.".into()));
    site.generate(&request(json!([1, 2, 3])));
    let mut silent = site.connect();
    let mut nothing = Vec::new();
    std::io::Read::read_to_end(&mut silent, &mut nothing).unwrap();
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let site = Site::of("llama_tied", limits(|limits| limits.max_queue = 2));
    site.server.pause(true);
    std::thread::scope(|scope| {
        let taken: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| site.post("/generate", &request(json!([1, 2])))))
            .collect();
        while site.server.queued() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        for path in ["/generate", "/v1/completions"] {
            let refused = site.post(path, &request(json!([1, 2])));
            let expected = "The request queue is full: 2 requests are being served.";
            assert_eq!(refused.fault(), (503, expected.into()));
            assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
        }
        assert_eq!(site.get("/health").status, 200);
        site.server.pause(false);
        for answer in taken {
            assert_eq!(answer.join().unwrap().status, 200);
        }
    });
    site.generate(&request(json!([1, 2])));
    let small = Site::of("llama_tied", limits(|limits| limits.max_queued_bytes = 1024));
    let large = small.post("/generate", &request(vec![7; 600]));
    let expected = "The request queue is full: 1024 bytes of requests are being served.";
    assert_eq!(large.fault(), (503, expected.into()));
}

#[test]
fn a_client_that_leaves_costs_nothing() {
    let site = Site::of("llama_tied", limits(|limits| limits.max_queue = 1));
    site.server.pause(true);
    let body = request(json!([1, 2])).to_string();
    let mut gone = site.connect();
    let head = format!(
        "POST /generate HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    gone.write_all(head.as_bytes()).unwrap();
    while site.server.queued() < 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(gone);
    // Its place is free as soon as the server has noticed.
    let again = || {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| site.post("/generate", &request(json!([1, 2]))));
            std::thread::sleep(Duration::from_millis(20));
            asked.is_finished().then(|| asked.join().unwrap().status)
        })
    };
    site.server.pause(false);
    while again() == Some(503) {}
    site.generate(&request(json!([1, 2])));
}

#[test]
fn a_key_is_needed_but_for_health() {
    let key = Some(Key::new("sesame", "test").unwrap());
    let site = Site::of("llama_tied", Options { key, ..Options::default() });
    let body = request(json!([1, 2])).to_string();
    let post = |headers: &str| site.send("POST", "/generate", headers, body.as_bytes());
    for wrong in ["", "Authorization: Bearer sesam\r\n", "Authorization: sesame\r\n"] {
        let refused = post(wrong);
        assert_eq!((refused.status, refused.body.as_str()), (401, r#"{"error":"Unauthorized"}"#));
        assert!(refused.head.contains("www-authenticate: bearer"), "{refused:?}");
    }
    assert_eq!(post("Authorization: Bearer sesame\r\n").status, 200);
    for path in
        ["/model_info", "/server_info", "/v1/models", "/metrics", "/nope", "/tokenizer.json"]
    {
        assert_eq!(site.get(path).status, 401, "{path}");
    }
    assert_eq!(site.get("/health").status, 200);
}

#[test]
fn only_a_server_with_a_key_listens_to_other_machines() {
    let site = Site::of("llama_tied", Options::default());
    let all = "0.0.0.0:0".parse().unwrap();
    let refused = Running::start(&site.server, all).unwrap_err();
    assert!(matches!(refused, Error::Open { .. }));
    assert_eq!(
        refused.to_string(),
        "0.0.0.0:0 can be reached from other machines: give the server a key (--api-key-env or --api-key-file), or listen on 127.0.0.1"
    );
    let taken = Running::start(&site.server, site.address).unwrap_err();
    assert_eq!(taken.to_string(), format!("{}: cannot listen there", site.address));
    let key = Some(Key::new("sesame", "test").unwrap());
    let keyed = Site::of("llama_tied", Options { key, ..Options::default() });
    keyed.server.check_address(all).unwrap();
}

#[test]
fn unknown_places_and_methods() {
    let site = Site::of("llama_tied", Options::default());
    let nowhere = site.post("/nope", &json!({}));
    assert_eq!((nowhere.status, nowhere.body.as_str()), (404, r#"{"detail":"Not Found"}"#));
    assert_eq!(site.get("/generate").status, 405);
}
