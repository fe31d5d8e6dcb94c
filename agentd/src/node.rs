//! What handlers and watchers share: the node's name, identity, token, engines and addresses.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use mnemos_relay::Metrics;
use mnemos_soul::{Identity, Token};
use nix::unistd::gethostname;

use crate::addresses::Address;
use crate::config::Config;
use crate::engines::Registry;
use crate::machine::Cpu;

/// Used when the host name is none that a certificate could carry.
const FALLBACK_NAME: &str = "mnemos";

/// The node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) identity: Arc<Identity>,
    pub(crate) token: Token,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cpu: Cpu,
    /// The TLS port in use, which differs from the configuration when that said 0.
    pub(crate) https_port: u16,
    addresses: RwLock<Vec<Address>>,
}

/// What [`Node`] is made of besides what it finds itself.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) identity: Arc<Identity>,
    pub(crate) token: Token,
    pub(crate) https_port: u16,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Node {
        let cpu = Cpu::read(&parts.config.proc_dir);
        Node {
            registry: Arc::new(Registry::new(cpu.problem())),
            cpu,
            name: parts.name,
            config: parts.config,
            identity: parts.identity,
            token: parts.token,
            metrics: Arc::default(),
            https_port: parts.https_port,
            addresses: RwLock::default(),
        }
    }

    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the addresses; `Some` with the bare ones when they changed.
    pub(crate) fn set_addresses(&self, new: Vec<Address>) -> Option<Vec<IpAddr>> {
        let mut addresses = self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *addresses == new {
            return None;
        }
        *addresses = new;
        Some(addresses.iter().map(|address| address.address).collect())
    }
}

/// The host name if it is one DNS label (RFC 1123, section 2.1), otherwise a fixed one.
pub(crate) fn host_name() -> String {
    let name = gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    if is_label(&name) {
        name.to_ascii_lowercase()
    } else {
        FALLBACK_NAME.to_owned()
    }
}

fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_become_node_names() {
        for name in ["mnemos-0a1b2c", "a", "Kitchen-2"] {
            assert!(is_label(name), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "(none)",
            "localhost",
            "a.b",
            "-a",
            "a-",
            "a b",
            "\u{e9}",
            &long,
        ] {
            assert!(!is_label(name), "{name}");
        }
    }
}
