use serde_json::Value;

/// Characters of a server's message that are shown.
const SHOWN: usize = 300;

/// The message in the body of an error: servers put it under `error.message`, `error`,
/// `message` or `detail`, or send it as text.
pub(crate) fn said(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let places = ["/error/message", "/error", "/message", "/detail"];
    let message = parsed.as_ref().and_then(|value| {
        places.into_iter().find_map(|place| value.pointer(place).and_then(Value::as_str))
    });
    let text = match message {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]).into_owned(),
    };
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None if line.is_empty() => "(nothing)".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_an_error_is_understood() {
        for body in [
            r#"{"error": {"message": "too long", "code": 400}}"#,
            r#"{"error": "too long"}"#,
            r#"{"object": "error", "message": "too long", "code": 503}"#,
            r#"{"detail": "too long"}"#,
            "too\n long",
        ] {
            assert_eq!(said(body.as_bytes()), "too long", "{body}");
        }
        assert_eq!(said(b""), "(nothing)");
        assert_eq!(said(&[0xff, b'x']), "\u{fffd}x");
        let long = said("é".repeat(5000).as_bytes());
        assert_eq!(long.chars().count(), SHOWN + 2);
    }
}
