use std::{io::Write, net::TcpStream, time::Duration};

use opd_serve::Options;
use serde_json::json;

use crate::client::{Site, logprobs, read, request};

#[test]
fn what_was_taken_is_answered_and_nothing_more_is_taken() {
    let mut site = Site::of("qwen3_tied", Options { max_batch_tokens: 64, ..Options::default() });
    let sequence: Vec<u32> = (0..200).map(|i| i % 320).collect();
    let expected = logprobs(&site.generate(&request(json!(sequence))));
    site.server.pause(true);
    let body = request(json!(sequence)).to_string();
    let head = |close: &str| {
        let length = body.len();
        format!(
            "POST /generate HTTP/1.1\r\nHost: test\r\n{close}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let mut taken: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = site.connect();
            stream.write_all(head("").as_bytes()).unwrap();
            stream
        })
        .collect();
    while site.server.queued() < 10 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let idle = site.connect();
    let address = site.address;
    site.running().stop_handle().stop();
    // All ten are answered although they came on connections that would have stayed open.
    for stream in &mut taken {
        let answer = read(stream);
        assert_eq!(logprobs(&answer.ok()), expected);
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    site.stop();
    assert!(TcpStream::connect(address).is_err());
    drop(idle);
}
