//! The node's machine-readable serial lines: one JSON object per line, `{"mnemos": KIND, ...}`.

use serde::Deserialize;

/// One machine-readable line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "mnemos", rename_all = "kebab-case")]
pub enum Marker {
    /// A boot stage changed its state.
    Stage(Stage),
    /// The node answers requests and proved it to itself.
    #[serde(rename = "MNEMOS-READY")]
    Ready(Ready),
    /// PID 1 cannot go on.
    Emergency(Reason),
    /// The node runs, but can never serve on this machine.
    CannotServe(Reason),
}

/// A boot stage and its state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Stage {
    /// Stage name, such as `devices`.
    pub stage: String,
    /// `start`, `ok`, `skipped` or `failed`.
    pub state: String,
    /// Since the kernel started.
    pub uptime_ms: u64,
    /// For people.
    #[serde(default)]
    pub detail: Option<String>,
}

/// What a ready node says of itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Ready {
    /// Since the kernel started.
    pub uptime_ms: u64,
    /// Host name.
    pub name: String,
    /// Addresses to open, as the node sees them. Empty without a network.
    #[serde(default)]
    pub urls: Vec<String>,
    /// SHA-256 of the CA certificate, `SHA256:AB:CD...`.
    pub fingerprint: String,
    /// Bearer token of this boot.
    pub token: String,
    /// Name of the model that passed the self-test.
    #[serde(default)]
    pub model: Option<String>,
    /// Measured by the self-test.
    #[serde(default)]
    pub decode_tokens_per_s: Option<f64>,
    /// Measured by the self-test.
    #[serde(default)]
    pub prefill_tokens_per_s: Option<f64>,
}

/// Why the node is not going to serve.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reason {
    /// One sentence.
    pub reason: String,
    /// Since the kernel started.
    #[serde(default)]
    pub uptime_ms: u64,
}

/// Parses one console line. Lines for people are `None`; so is a JSON line this version does not know.
#[must_use]
pub fn parse(line: &str) -> Option<Marker> {
    // Firmware and kernel may leave terminal control before the object on the same line.
    let start = line.find("{\"mnemos\":")?;
    serde_json::from_str(line[start..].trim_end()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_line() {
        let line = "\u{1b}[0m{\"mnemos\":\"MNEMOS-READY\",\"uptime_ms\":9,\"name\":\"mnemos-a\",\"urls\":[\"https://10.0.2.15/\"],\
            \"fingerprint\":\"SHA256:AA\",\"token\":\"t\",\"model\":\"m\",\"decode_tokens_per_s\":50.5,\"prefill_tokens_per_s\":null}\r";
        let Some(Marker::Ready(ready)) = parse(line) else {
            panic!("{:?}", parse(line))
        };
        assert_eq!(ready.urls, ["https://10.0.2.15/"]);
        assert_eq!(ready.decode_tokens_per_s, Some(50.5));
    }

    #[test]
    fn other_kinds() {
        let stage =
            r#"{"mnemos":"stage","stage":"root","state":"ok","uptime_ms":3400,"detail":"erofs"}"#;
        assert!(matches!(parse(stage), Some(Marker::Stage(stage)) if stage.stage == "root"));
        let emergency = r#"{"mnemos":"emergency","reason":"too little memory","uptime_ms":1}"#;
        assert!(matches!(parse(emergency), Some(Marker::Emergency(_))));
        let cannot = r#"{"mnemos":"cannot-serve","reason":"no AVX2","uptime_ms":1}"#;
        assert!(matches!(parse(cannot), Some(Marker::CannotServe(_))));
    }

    #[test]
    fn everything_else_is_for_people() {
        assert_eq!(parse("Linux version 6.12"), None);
        assert_eq!(parse(r#"{"mnemos":"stage","stage":"ro"#), None);
        assert_eq!(parse(r#"{"mnemos":"later-kind"}"#), None);
    }
}
