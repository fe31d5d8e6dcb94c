//! The current server certificate: reused while it fits, replaced without dropping connections.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::authority::{Authority, AuthorityError, Issued};
use crate::state::{self, StateError};
use crate::validity::Window;

/// More addresses than this never enter a certificate; the handshake would need several round trips.
const MAX_ADDRESSES: usize = 64;

/// Why there is no server certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The authority failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The certificate's files are unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// The TLS library refuses the key.
    #[error("cannot use the server key")]
    Key(#[source] rustls::Error),
}

/// What [`Identity::ensure`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The certificate in use fits.
    AlreadyThere,
    /// A new certificate is in use from now on.
    Issued,
}

/// The node's authority with the server certificate in use. Give it to rustls as the resolver.
pub struct Identity {
    authority: Authority,
    directory: PathBuf,
    /// What the certificate in use covers. Held while one is issued, so that only one is.
    covers: Mutex<Covers>,
    current: RwLock<Arc<CertifiedKey>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Covers {
    addresses: BTreeSet<IpAddr>,
    window: Window,
}

impl Identity {
    /// The identity kept in `directory` for the node `name`, made where it is missing.
    ///
    /// # Errors
    /// [`IdentityError`] when state cannot be read or written, or contradicts itself.
    pub fn load_or_create(
        directory: &Path,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<Identity, IdentityError> {
        let authority = Authority::load_or_create(directory, name)?;
        let (covers, key) = match restore(&authority, directory) {
            Some(restored) => restored,
            None => issue(&authority, directory, &with_loopback(&[]), now)?,
        };
        Ok(Identity {
            authority,
            directory: directory.to_owned(),
            covers: Mutex::new(covers),
            current: RwLock::new(Arc::new(key)),
        })
    }

    /// Makes sure that the certificate in use covers `addresses` and `now`.
    ///
    /// # Errors
    /// [`IdentityError`]; the certificate in use stays.
    pub fn ensure(
        &self,
        addresses: &[IpAddr],
        now: OffsetDateTime,
    ) -> Result<Ensured, IdentityError> {
        let wanted = with_loopback(addresses);
        let mut covers = self.covers.lock().unwrap_or_else(PoisonError::into_inner);
        if covers.addresses == wanted && covers.window.covers(now) {
            return Ok(Ensured::AlreadyThere);
        }
        let (new, key) = issue(&self.authority, &self.directory, &wanted, now)?;
        *covers = new;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(Ensured::Issued)
    }

    /// The authority that signs the certificate.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("name", &self.authority.name())
            .finish_non_exhaustive()
    }
}

fn with_loopback(addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    all.extend(addresses.iter().take(MAX_ADDRESSES));
    all
}

fn issue(
    authority: &Authority,
    directory: &Path,
    addresses: &BTreeSet<IpAddr>,
    now: OffsetDateTime,
) -> Result<(Covers, CertifiedKey), IdentityError> {
    let covers = Covers {
        addresses: addresses.clone(),
        window: Window::of_server(now),
    };
    let listed: Vec<IpAddr> = addresses.iter().copied().collect();
    let issued = authority.issue(&listed, covers.window)?;
    let key = certified(&issued)?;
    // What it covers comes last: without it the certificate is issued again at the next start.
    state::write(&directory.join("server.names"), "")?;
    state::write(&directory.join("server.key"), &issued.key_pem)?;
    state::write(&directory.join("server.crt"), &issued.certificate_pem)?;
    state::write(&directory.join("server.names"), &covers.to_text(authority))?;
    Ok((covers, key))
}

/// The certificate of an earlier start, if it is whole and of this authority.
fn restore(authority: &Authority, directory: &Path) -> Option<(Covers, CertifiedKey)> {
    let read = |name: &str| state::read(&directory.join(name)).ok().flatten();
    let covers = Covers::parse(&read("server.names")?, authority)?;
    let issued = authority.restore(&read("server.crt")?, &read("server.key")?)?;
    Some((covers, certified(&issued).ok()?))
}

fn certified(issued: &Issued) -> Result<CertifiedKey, IdentityError> {
    let key = any_ecdsa_type(&issued.key).map_err(IdentityError::Key)?;
    let certified = CertifiedKey::new(issued.chain.clone(), key);
    certified.keys_match().map_err(IdentityError::Key)?;
    Ok(certified)
}

impl Covers {
    /// The CA fingerprint, the window, then an address per line.
    fn to_text(&self, authority: &Authority) -> String {
        let mut lines = vec![authority.fingerprint(), self.window.to_text()];
        lines.extend(self.addresses.iter().map(ToString::to_string));
        lines.join("\n") + "\n"
    }

    /// The reverse; `None` when it was another authority's or is not whole.
    fn parse(text: &str, authority: &Authority) -> Option<Covers> {
        let mut lines = text.lines();
        if lines.next()? != authority.fingerprint() {
            return None;
        }
        let window = Window::parse(lines.next()?)?;
        let addresses = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
        Some(Covers { addresses, window })
    }
}
