//! What the client and the crates below it log, at their most talkative.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use log::{Level, Log, Metadata, Record};
use opd_http::{ApiKey, CircuitRules, Client, Retry, Settings};
use opd_testkit::http::{HttpServer, Reply};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{ask, quick};

/// All that is logged in this process.
#[derive(Default)]
struct Captured(Mutex<String>);

impl Captured {
    fn start() -> &'static Self {
        static CAPTURED: OnceLock<Captured> = OnceLock::new();
        let captured = CAPTURED.get_or_init(Self::default);
        tracing::subscriber::set_global_default(captured).unwrap();
        log::set_logger(captured).unwrap();
        log::set_max_level(Level::Trace.to_level_filter());
        captured
    }

    fn add(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for &'static Captured {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields(format!("span {} ", span.metadata().name()));
        span.record(&mut fields);
        self.add(&(fields.0 + "\n"));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        self.add(&(fields.0 + "\n"));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(format!("event {} ", event.metadata().target()));
        event.record(&mut fields);
        self.add(&(fields.0 + "\n"));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Log for Captured {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.add(&format!("log {} {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn a_key_is_in_no_log() {
    const KEY: &str = "never-to-be-logged-4711";
    let captured = Captured::start();
    let key = ApiKey::new(KEY);
    let circuit = CircuitRules { failures: 2, ..quick().circuit };
    let retry = Retry { attempts: 3, patience: Duration::from_millis(200), ..quick().retry };
    let settings = Settings { key, circuit, retry, health: Some("/health".into()), ..quick() };
    let said = |reply: fn(&str) -> Reply| {
        let server = HttpServer::start(move |request| {
            // The key comes back in whatever the server says.
            reply(request.header("authorization").unwrap())
        });
        let client = Client::new(&[server.url()], settings.clone()).unwrap();
        let answer = ask(&client, 4);
        let text = answer.as_ref().map_or_else(ToString::to_string, |_| String::new());
        tracing::trace!("{client:?}: {answer:?}");
        assert!(!text.contains(KEY), "{text}");
    };
    said(|_| Reply::json("4"));
    said(|key| Reply::json(format!("\"{key}\"")));
    said(|key| Reply::status(401, format!("no entry with {key}")));
    said(|key| Reply::status(503, key));
    said(|key| Reply::Torn { body: key.into(), sent: 20 });
    said(|key| Reply::Answer {
        status: 302,
        headers: vec![("location".into(), format!("/{key}"))],
        body: Vec::new(),
    });
    said(|_| Reply::Drop);
    let text = captured.text();
    for expected in ["circuit open", "log reqwest"] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let line = text.lines().find(|line| line.contains(KEY));
    assert!(line.is_none(), "{line:?}");
}
