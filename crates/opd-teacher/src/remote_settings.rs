use opd_http::Settings;

/// How a teacher behind HTTP is asked.
#[derive(Clone, Debug)]
pub struct RemoteSettings {
    /// Name in logs and errors; without it the model's name and the server's address.
    pub name: Option<String>,
    /// The client: key, time limits, retries.
    pub http: Settings,
    /// The student's vocabulary: ids from here on are refused before they are sent. A server
    /// that tells its own is held to the smaller one.
    pub vocab_size: Option<usize>,
    /// Sequences of one prompt that one request holds at most.
    pub sequences_per_request: usize,
    /// Takes scores at temperature 1 whatever temperature is asked for: the KL of samples at
    /// another temperature is then biased.
    pub at_temperature_one: bool,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            name: None,
            http: Settings::default(),
            vocab_size: None,
            sequences_per_request: 16,
            at_temperature_one: false,
        }
    }
}
