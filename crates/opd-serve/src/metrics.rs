use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// What a server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    sequences: Counter,
    tokens: Counter,
    computed: Counter,
    shared: Counter,
    kept: Gauge,
    depth: Gauge,
    in_flight: Gauge,
    seconds: Family<Endpoint, Histogram>,
    waiting: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    endpoint: &'static str,
    status: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Endpoint {
    endpoint: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("opd"),
            requests: Family::default(),
            sequences: Counter::default(),
            tokens: Counter::default(),
            computed: Counter::default(),
            shared: Counter::default(),
            kept: Gauge::default(),
            depth: Gauge::default(),
            in_flight: Gauge::default(),
            seconds: Family::new_with_constructor(seconds),
            waiting: seconds(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register("sequences", "Sequences scored", metrics.sequences.clone());
        registry.register("tokens", "Tokens of the sequences scored", metrics.tokens.clone());
        registry.register("computed_tokens", "Tokens computed", metrics.computed.clone());
        registry.register(
            "shared_tokens",
            "Tokens not computed because another sequence begins with them, too",
            metrics.shared.clone(),
        );
        registry.register(
            "kept_bytes",
            "Keys and values that are kept of what sequences begin with",
            metrics.kept.clone(),
        );
        registry.register("queue_depth", "Requests waiting to be scored", metrics.depth.clone());
        registry.register(
            "in_flight",
            "Requests read, waiting or scored",
            metrics.in_flight.clone(),
        );
        registry.register(
            "request_seconds",
            "Time from a request's head to its answer",
            metrics.seconds.clone(),
        );
        registry.register("queue_seconds", "Time waited in the queue", metrics.waiting.clone());
        metrics
    }

    pub(crate) fn answered(&self, endpoint: &'static str, status: u16, time: Duration) {
        self.requests.get_or_create(&Request { endpoint, status: status.into() }).inc();
        self.seconds.get_or_create(&Endpoint { endpoint }).observe(time.as_secs_f64());
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waiting.observe(time.as_secs_f64());
    }

    pub(crate) fn scored(&self, sequences: usize, tokens: usize, computed: usize, shared: usize) {
        self.sequences.inc_by(sequences as u64);
        self.tokens.inc_by(tokens as u64);
        self.computed.inc_by(computed as u64);
        self.shared.inc_by(shared as u64);
    }

    /// Prometheus' text form.
    pub(crate) fn text(&self, kept: usize, depth: usize, in_flight: usize) -> String {
        self.kept.set(kept as i64);
        self.depth.set(depth as i64);
        self.in_flight.set(in_flight as i64);
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
