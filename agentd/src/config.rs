//! Where the agent listens and finds things. Every path and port can be given, for tests; the defaults
//! are the image's.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The console's user in the image.
const CONSOLE_UID: u32 = 902;

/// Why the arguments are no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such option.
    #[error("unknown option '{0}'; {USAGE}")]
    Unknown(String),
    /// An option without its value.
    #[error("option '{0}' needs a value; {USAGE}")]
    NoValue(String),
    /// A value of the wrong kind.
    #[error("option '{option}' does not accept '{value}'")]
    Value {
        /// Which option.
        option: String,
        /// What was given.
        value: String,
    },
}

const USAGE: &str = "options: --bind ADDRESS, --https-port N, --http-port N, --name NAME, \
    --state-dir DIR, --engines-dir DIR, --models-dir DIR, --services FILE, --local-socket FILE, \
    --console-uid N, --hostd-socket FILE, --proc-dir DIR";

/// The agent's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; the IPv6 wildcard also takes IPv4.
    pub bind: IpAddr,
    /// TLS port; 0 picks a free one.
    pub https_port: u16,
    /// Plain port; 0 picks a free one.
    pub http_port: u16,
    /// Node name instead of the host name.
    pub name: Option<String>,
    /// Keys, certificates, token.
    pub state_dir: PathBuf,
    /// Engines' sockets, `<instance>.sock`.
    pub engines_dir: PathBuf,
    /// Models, `<instance>/model.json`.
    pub models_dir: PathBuf,
    /// What PID 1 says of its units.
    pub services_file: PathBuf,
    /// Where the console asks for the status.
    pub local_socket: PathBuf,
    /// Who may ask there besides root.
    pub console_uid: u32,
    /// The root helper.
    pub hostd_socket: PathBuf,
    /// `/proc`.
    pub proc_dir: PathBuf,
    /// Bounds and deadlines.
    pub limits: Limits,
}

/// Bounds and deadlines of the listeners and watchers. Defaults are for production.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bounds of the model API.
    pub relay: mnemos_relay::Limits,
    /// TLS connections at once.
    pub connections: usize,
    /// TLS connections of one address at once.
    pub connections_per_address: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's head, and for the next request on an idle connection.
    pub head: Duration,
    /// How long a client may refuse to take bytes.
    pub write_stall: Duration,
    /// Time for running requests when the agent ends.
    pub drain: Duration,
    /// Time for an engine to say what it serves.
    pub engine_info: Duration,
    /// Longest silence of an engine in the self-test.
    pub self_test_event: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            relay: mnemos_relay::Limits::default(),
            connections: 256,
            connections_per_address: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(5),
            engine_info: Duration::from_secs(5),
            self_test_event: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// The configuration of the image.
    #[must_use]
    pub fn new(limits: Limits) -> Config {
        Config {
            bind: Ipv6Addr::UNSPECIFIED.into(),
            https_port: 443,
            http_port: 80,
            name: None,
            state_dir: "/var/lib/mnemos/agent".into(),
            engines_dir: "/run/mnemos/neuron".into(),
            models_dir: "/usr/share/mnemos/models".into(),
            services_file: "/run/mnemos/init/services.json".into(),
            local_socket: "/run/mnemos/agent/local.sock".into(),
            console_uid: CONSOLE_UID,
            hostd_socket: mnemos_hostd::protocol::SOCKET_PATH.into(),
            proc_dir: "/proc".into(),
            limits,
        }
    }

    /// The configuration that `arguments` (without the program's name) ask for.
    ///
    /// # Errors
    /// [`ConfigError`] with the first argument that makes no sense.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        limits: Limits,
    ) -> Result<Config, ConfigError> {
        let mut config = Config::new(limits);
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            config.set(option, &mut arguments)?;
        }
        Ok(config)
    }

    fn set(
        &mut self,
        option: String,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), ConfigError> {
        let mut value = || {
            rest.next()
                .ok_or_else(|| ConfigError::NoValue(option.clone()))
        };
        match option.as_str() {
            "--bind" => self.bind = parse(&option, value()?)?,
            "--https-port" => self.https_port = parse(&option, value()?)?,
            "--http-port" => self.http_port = parse(&option, value()?)?,
            "--name" => self.name = Some(value()?),
            "--state-dir" => self.state_dir = value()?.into(),
            "--engines-dir" => self.engines_dir = value()?.into(),
            "--models-dir" => self.models_dir = value()?.into(),
            "--services" => self.services_file = value()?.into(),
            "--local-socket" => self.local_socket = value()?.into(),
            "--console-uid" => self.console_uid = parse(&option, value()?)?,
            "--hostd-socket" => self.hostd_socket = value()?.into(),
            "--proc-dir" => self.proc_dir = value()?.into(),
            _ => return Err(ConfigError::Unknown(option)),
        }
        Ok(())
    }
}

fn parse<T: std::str::FromStr>(option: &str, value: String) -> Result<T, ConfigError> {
    value.parse().map_err(|_| ConfigError::Value {
        option: option.to_owned(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Config, ConfigError> {
        Config::parse(
            line.split_whitespace().map(ToOwned::to_owned),
            Limits::default(),
        )
    }

    #[test]
    fn options_replace_the_images_defaults() {
        let config = parse("--bind 127.0.0.1 --https-port 0 --state-dir /tmp/x").unwrap();
        assert_eq!(config.bind, IpAddr::from([127, 0, 0, 1]));
        assert_eq!((config.https_port, config.http_port), (0, 80));
        assert_eq!(config.state_dir, PathBuf::from("/tmp/x"));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(matches!(parse("--fast"), Err(ConfigError::Unknown(option)) if option == "--fast"));
        assert!(matches!(parse("--bind"), Err(ConfigError::NoValue(_))));
        assert!(matches!(
            parse("--https-port 70000"),
            Err(ConfigError::Value { .. })
        ));
    }
}
