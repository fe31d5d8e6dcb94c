//! The node's own certificate authority: ECDSA P-256, made once, constrained to the node's own names (addresses are not
//! constrained: they change, and a CA that had to follow them would have to be trusted anew).

use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::state::{self, StateError};
use crate::validity::Window;

/// Names that lead to this machine on every machine.
const LOCALHOST: &str = "localhost";
/// 127 random bits; RFC 5280 allows 20 bytes and wants a positive number.
const SERIAL_BYTES: usize = 16;

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its files are unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// A key or certificate could not be made or read.
    #[error("cannot {doing}")]
    Certificate {
        /// What was tried.
        doing: &'static str,
        /// What was wrong.
        #[source]
        source: rcgen::Error,
    },
    /// `ca.crt` is not the certificate of `ca.key`.
    #[error("ca.crt in {directory} does not belong to ca.key; remove both to make a new authority")]
    Mismatch {
        /// Where the files are.
        directory: String,
    },
    /// The kernel gave no random bytes.
    #[error("cannot get random bytes for a serial number")]
    Random,
}

/// A certificate this authority issued, with its key.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// The node's certificate authority.
pub struct Authority {
    key: KeyPair,
    der: CertificateDer<'static>,
    pem: String,
    name: String,
}

impl Authority {
    /// The authority kept in `directory`, or a new one. It may vouch for `name`, `name.local`,
    /// `localhost` and addresses; a node that changed its name therefore gets a new authority.
    ///
    /// # Errors
    /// [`AuthorityError`]; files that contradict each other are an error, never replaced.
    pub fn load_or_create(directory: &Path, name: &str) -> Result<Authority, AuthorityError> {
        state::ensure_directory(directory)?;
        let key = state::read(&directory.join("ca.key"))?;
        let certificate = state::read(&directory.join("ca.crt"))?;
        let kept_name = state::read(&directory.join("ca.name"))?;
        match (key, certificate, kept_name) {
            (Some(key), Some(certificate), Some(kept)) if kept.trim_end() == name => {
                Authority::from_files(directory, &key, certificate, name)
            }
            _ => Authority::create(directory, name),
        }
    }

    fn from_files(
        directory: &Path,
        key: &str,
        pem: String,
        name: &str,
    ) -> Result<Authority, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(doing("read ca.key"))?;
        let mismatch = || AuthorityError::Mismatch {
            directory: directory.display().to_string(),
        };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| mismatch())?;
        // The certificate contains the public key as it is.
        let public_key = key.public_key_raw();
        if !der
            .windows(public_key.len())
            .any(|window| window == public_key)
        {
            return Err(mismatch());
        }
        Ok(Authority {
            key,
            der,
            pem,
            name: name.to_owned(),
        })
    }

    fn create(directory: &Path, name: &str) -> Result<Authority, AuthorityError> {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(doing("make the CA key"))?;
        let mut params = issuer_params(&key, name);
        params.serial_number = Some(random_serial()?);
        let certificate = params
            .self_signed(&key)
            .map_err(doing("make the CA certificate"))?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        // The name comes last: without it the three files count as absent.
        state::write(&directory.join("ca.key"), &key.serialize_pem())?;
        state::write(&directory.join("ca.crt"), &pem)?;
        state::write(&directory.join("ca.name"), &format!("{name}\n"))?;
        Ok(Authority {
            key,
            der,
            pem,
            name: name.to_owned(),
        })
    }

    /// The certificate in PEM, as port 80 serves it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// `SHA256:` and the digest of the certificate's DER in upper-case hex pairs, as browsers show it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, &self.der);
        let pairs: Vec<String> = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        format!("SHA256:{}", pairs.join(":"))
    }

    /// The node name the authority was made for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The names every certificate of this node has, whatever its addresses.
    pub(crate) fn dns_names(&self) -> Vec<String> {
        permitted_names(&self.name)
    }

    /// A server certificate with a key of its own. Key and serial number are new each time: Firefox
    /// refuses two certificates of one issuer with the same serial number.
    pub(crate) fn issue(
        &self,
        addresses: &[IpAddr],
        window: Window,
    ) -> Result<Issued, AuthorityError> {
        let failed = doing("make the server certificate");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
        let mut params = CertificateParams::new(self.dns_names()).map_err(&failed)?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = common_name(&self.name);
        params.not_before = window.not_before;
        params.not_after = window.not_after;
        params.serial_number = Some(random_serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let issuer = issuer_params(&self.key, &self.name);
        let issuer = Issuer::from_params(&issuer, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(&failed)?;
        Ok(Issued {
            chain: vec![certificate.der().clone(), self.der.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// An earlier certificate of this authority, as kept in the state directory.
    pub(crate) fn restore(&self, certificate_pem: &str, key_pem: &str) -> Option<Issued> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).ok()?;
        Some(Issued {
            chain: vec![certificate, self.der.clone()],
            key,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        })
    }
}

/// What the CA certificate says. It depends on key and name only, so that it can be rebuilt.
fn issuer_params(key: &KeyPair, name: &str) -> CertificateParams {
    let window = Window::of_authority();
    let mut params = CertificateParams::default();
    // Two authorities never share a subject: browsers look issuers up by it.
    let digest = digest(&SHA256, key.public_key_raw());
    let id: String = digest
        .as_ref()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = common_name(&format!("MNEMOS {name} CA {id}"));
    params.not_before = window.not_before;
    params.not_after = window.not_after;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted_names(name)
            .into_iter()
            .map(GeneralSubtree::DnsName)
            .collect(),
        excluded_subtrees: Vec::new(),
    });
    params
}

fn permitted_names(name: &str) -> Vec<String> {
    let mut names = vec![
        name.to_owned(),
        format!("{name}.local"),
        LOCALHOST.to_owned(),
    ];
    names.dedup();
    names
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0u8; SERIAL_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AuthorityError::Random)?;
    // Positive and of full length.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from(bytes.to_vec()))
}

fn doing(doing: &'static str) -> impl Fn(rcgen::Error) -> AuthorityError {
    move |source| AuthorityError::Certificate { doing, source }
}
