//! The identity on a real directory, verified by the same library that clients use.

#![expect(
    clippy::unwrap_used,
    reason = "a test's support code may panic like the test itself"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use mnemos_soul::{Authority, AuthorityError, Ensured, Identity, Token};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

const NAME: &str = "mnemos-0a1b2c";

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap()
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

/// Whether a client that trusts the node's CA accepts the certificate in use for `host` at `at`.
fn accepted(directory: &Path, host: &str, at: OffsetDateTime) -> bool {
    let read =
        |name| CertificateDer::from_pem_slice(&fs::read(directory.join(name)).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.crt")).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let at = std::time::Duration::from_secs(at.unix_timestamp().try_into().unwrap());
    let at = UnixTime::since_unix_epoch(at);
    verifier
        .verify_server_cert(&read("server.crt"), &[], &host, &[], at)
        .is_ok()
}

#[test]
fn first_start_makes_private_files_and_a_valid_certificate() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("agent");
    let identity = Identity::load_or_create(&directory, NAME, now()).unwrap();
    Token::load_or_create(&directory).unwrap();
    let address: IpAddr = "10.0.2.15".parse().unwrap();
    assert_eq!(identity.ensure(&[address], now()).unwrap(), Ensured::Issued);
    for host in [
        NAME,
        "mnemos-0a1b2c.local",
        "localhost",
        "127.0.0.1",
        "::1",
        "10.0.2.15",
    ] {
        assert!(accepted(&directory, host, now()), "{host}");
    }
    for host in ["example.com", "10.0.2.16", "other.local"] {
        assert!(!accepted(&directory, host, now()), "{host}");
    }
    assert_eq!(
        fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for (name, _) in files(&directory) {
        let mode = fs::metadata(directory.join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn restart_reuses_everything() {
    let state = tempfile::tempdir().unwrap();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let first = Identity::load_or_create(state.path(), NAME, now()).unwrap();
    first.ensure(&[address], now()).unwrap();
    let token = Token::load_or_create(state.path()).unwrap();
    let before = files(state.path());

    let second = Identity::load_or_create(state.path(), NAME, now()).unwrap();
    assert_eq!(
        second.ensure(&[address], now()).unwrap(),
        Ensured::AlreadyThere
    );
    assert!(token.matches(Token::load_or_create(state.path()).unwrap().reveal()));
    assert_eq!(files(state.path()), before);
    assert_eq!(
        first.authority().fingerprint(),
        second.authority().fingerprint()
    );
}

#[test]
fn new_address_gets_a_new_certificate_of_the_same_authority() {
    let state = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(state.path(), NAME, now()).unwrap();
    let fingerprint = identity.authority().fingerprint();
    let before = files(state.path());
    let address: IpAddr = "2001:db8::5".parse().unwrap();
    assert!(!accepted(state.path(), "2001:db8::5", now()));
    assert_eq!(identity.ensure(&[address], now()).unwrap(), Ensured::Issued);
    assert!(accepted(state.path(), "2001:db8::5", now()));
    let after = files(state.path());
    assert_eq!(before["ca.crt"], after["ca.crt"]);
    assert_ne!(before["server.crt"], after["server.crt"]);
    assert_ne!(before["server.key"], after["server.key"]);
    assert_eq!(identity.authority().fingerprint(), fingerprint);
}

#[test]
fn a_clock_that_jumps_two_years_gets_a_new_certificate() {
    let state = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(state.path(), NAME, now()).unwrap();
    let later = now() + Duration::days(730);
    assert!(!accepted(state.path(), NAME, later));
    assert_eq!(identity.ensure(&[], later).unwrap(), Ensured::Issued);
    assert!(accepted(state.path(), NAME, later));
}

#[test]
fn damaged_server_files_are_replaced_and_a_foreign_authority_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(state.path(), NAME, now()).unwrap();
    let fingerprint = identity.authority().fingerprint();
    for name in ["server.key", "server.crt", "server.names"] {
        fs::write(state.path().join(name), "garbage").unwrap();
        let again = Identity::load_or_create(state.path(), NAME, now()).unwrap();
        assert_eq!(again.authority().fingerprint(), fingerprint, "{name}");
        assert!(accepted(state.path(), NAME, now()), "{name}");
    }
    let other = tempfile::tempdir().unwrap();
    Authority::load_or_create(other.path(), NAME).unwrap();
    fs::copy(other.path().join("ca.crt"), state.path().join("ca.crt")).unwrap();
    let refused = Authority::load_or_create(state.path(), NAME);
    assert!(matches!(refused, Err(AuthorityError::Mismatch { .. })));
}

#[test]
fn another_node_name_gets_another_authority() {
    let state = tempfile::tempdir().unwrap();
    let first = Identity::load_or_create(state.path(), NAME, now()).unwrap();
    let second = Identity::load_or_create(state.path(), "kitchen", now()).unwrap();
    assert_ne!(
        first.authority().fingerprint(),
        second.authority().fingerprint()
    );
    assert!(accepted(state.path(), "kitchen.local", now()));
}

#[test]
fn fingerprint_reads_like_a_browsers() {
    let state = tempfile::tempdir().unwrap();
    let fingerprint = Authority::load_or_create(state.path(), NAME)
        .unwrap()
        .fingerprint();
    let pairs = fingerprint.strip_prefix("SHA256:").unwrap();
    assert_eq!(pairs.len(), 32 * 3 - 1);
    assert!(
        pairs
            .split(':')
            .all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok())
    );
}
