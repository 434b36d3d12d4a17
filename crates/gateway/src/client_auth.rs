//! Client certificates: which connections are asked for one, whose are believed,
//! and what of that lets a request in.
//!
//! What is asked is settled by the name in the ClientHello, before there is a
//! request. So each request is held against what its own connection was asked:
//! nobody comes in by a connection that was made for another host, or before the
//! authority was changed. Such connections aren't resumed either.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use webpki::{CertRevocationList, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::extra::Location;

pub(crate) const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");
pub(crate) const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
pub(crate) const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");

/// What becomes of a connection, or of its requests, without a good certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// There is no connection.
    Connection,
    /// No request is let in.
    Requests,
    /// Without one they are, with a bad one they aren't.
    Optional,
    /// As that, and one of an authority that isn't known is for the app to judge.
    AnyAuthority,
    /// All are, whatever is shown.
    Insecure,
}

/// Whose certificates are asked for, and believed.
pub struct ClientAuth {
    roots: RootCertStore,
    revoked: Vec<CertRevocationList<'static>>,
    pub mode: Mode,
    /// Authorities between a certificate and the one that is known; None: any
    /// that can be followed.
    depth: Option<usize>,
    /// Of everything it was made from.
    pub fingerprint: u64,
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl PartialEq for ClientAuth {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// What a connection has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    Nothing,
    Good,
    /// Of an authority that isn't known.
    Unknown,
    Bad(String),
}

impl ClientAuth {
    /// None: no authority can be read, or a list of revoked certificates can't.
    pub fn new(authorities: &[&str], revoked: &str, mode: Mode, depth: Option<usize>) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
                roots.add(certificate.ok()?).ok()?;
            }
        }
        if roots.is_empty() {
            return None;
        }
        let mut lists = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(revoked.as_bytes()) {
            lists.push(CertRevocationList::from(OwnedCertRevocationList::from_der(&list.ok()?).ok()?));
        }
        if lists.is_empty() && !revoked.trim().is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (authorities, revoked, mode, depth).hash(&mut hasher);
        Some(Self { roots, revoked: lists, mode, depth, fingerprint: hasher.finish() })
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        provider: &CryptoProvider,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let Some((leaf, between)) = chain.split_first() else { return Err(webpki::Error::UnknownIssuer) };
        let leaf = webpki::EndEntityCert::try_from(leaf)?;
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        // Where there is a list, who isn't on one of its authority is unknown.
        let revocation = match RevocationOptionsBuilder::new(&lists) {
            Ok(builder) => Some(builder.build()),
            Err(_) => None,
        };
        let path = leaf.verify_for_usage(
            provider.signature_verification_algorithms.all,
            &self.roots.roots,
            between,
            now,
            KeyUsage::client_auth(),
            revocation,
            None,
        )?;
        let length = path.intermediate_certificates().count();
        if self.depth.is_some_and(|most| length > most) {
            return Err(webpki::Error::MaximumPathDepthExceeded);
        }
        Ok(())
    }

    /// What to think of the certificates that a client has proven to be its own.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>]) -> Proof {
        if chain.is_empty() {
            return Proof::Nothing;
        }
        match self.verify(chain, &ring::default_provider(), UnixTime::now()) {
            Ok(()) => Proof::Good,
            Err(webpki::Error::UnknownIssuer) => Proof::Unknown,
            Err(error) => Proof::Bad(format!("{error:?}")),
        }
    }

    /// How TLS is spoken where clients are asked.
    pub(crate) fn config(
        self: &Arc<Self>,
        shown: Arc<dyn ResolvesServerCert>,
        alpn: &[Vec<u8>],
    ) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let hints = match self.mode {
            // Whatever there is may be shown.
            Mode::AnyAuthority | Mode::Insecure => Vec::new(),
            Mode::Connection | Mode::Requests | Mode::Optional => self.roots.subjects(),
        };
        let asking = Asking { auth: self.clone(), hints, provider: provider.clone() };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(asking))
            .with_cert_resolver(shown);
        config.alpn_protocols = alpn.to_vec();
        // A resumed session would bring with it what was once believed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Asks for a certificate. That it is the client's own is always proven; whether
/// it is believed only where there is no connection without.
#[derive(Debug)]
struct Asking {
    auth: Arc<ClientAuth>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        self.auth.mode == Mode::Connection
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.auth.mode == Mode::Connection {
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            self.auth.verify(&chain, &self.provider, now).map_err(|error| {
                rustls::Error::InvalidCertificate(match error {
                    webpki::Error::UnknownIssuer => rustls::CertificateError::UnknownIssuer,
                    webpki::Error::CertExpired { .. } => rustls::CertificateError::Expired,
                    webpki::Error::CertRevoked => rustls::CertificateError::Revoked,
                    other => rustls::CertificateError::Other(rustls::OtherError(Arc::new(other))),
                })
            })?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a connection was asked for, and has shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Of the [`ClientAuth`] it was asked by.
    pub fingerprint: u64,
    pub proof: Proof,
    certificate: Option<CertificateDer<'static>>,
}

impl Shown {
    pub fn new(auth: &ClientAuth, chain: Option<&[CertificateDer<'static>]>) -> Self {
        let chain = chain.unwrap_or_default();
        Self { fingerprint: auth.fingerprint, proof: auth.judge(chain), certificate: chain.first().cloned() }
    }
}

/// What the requests for a host have to show (`auth-tls-secret`).
#[derive(Debug, Default)]
pub struct Guard {
    /// None: what is asked can't be followed, and nobody is let in.
    pub auth: Option<Arc<ClientAuth>>,
    /// Where who shows nothing good is sent.
    pub error_page: Option<Location>,
    /// Whether the app gets the certificate itself.
    pub pass: bool,
    /// What the subject's name has to be like.
    pub subject: Option<Regex>,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody can be let in.
    Everybody,
    /// Its connection was not asked what its host asks.
    Connection,
    Missing,
    Bad(String),
    /// Good, and somebody else's.
    Subject,
}

impl Guard {
    /// Whether both ask the same of a connection.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        self.auth == other.auth
    }

    /// Holds what a connection has shown against what is asked. In the end: what
    /// the app is told.
    pub(crate) fn admit(&self, shown: Option<&Shown>) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let auth = self.auth.as_ref().ok_or(Refusal::Everybody)?;
        let shown = shown.filter(|shown| shown.fingerprint == auth.fingerprint).ok_or(Refusal::Connection)?;
        let verified = match (&shown.proof, auth.mode) {
            (Proof::Good, _) => "SUCCESS".to_owned(),
            (Proof::Nothing, Mode::Connection | Mode::Requests) => return Err(Refusal::Missing),
            (Proof::Nothing, _) => "NONE".to_owned(),
            (Proof::Unknown, Mode::AnyAuthority | Mode::Insecure) => "FAILED:unknown authority".to_owned(),
            (Proof::Unknown, _) => {
                return Err(Refusal::Bad("its authority is not known here".to_owned()));
            }
            (Proof::Bad(reason), Mode::Insecure) => format!("FAILED:{reason}"),
            (Proof::Bad(reason), _) => return Err(Refusal::Bad(reason.clone())),
        };
        let mut told = vec![(VERIFY, value(&verified))];
        let mut subject = String::new();
        if let Some(certificate) = &shown.certificate {
            if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
                subject = name(parsed.subject());
                told.push((SUBJECT, value(&subject)));
                told.push((ISSUER, value(&name(parsed.issuer()))));
            }
            if self.pass {
                let text = pem(certificate);
                told.push((CERTIFICATE, value(&utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string())));
            }
        }
        if self.subject.as_ref().is_some_and(|wanted| !wanted.is_match(&subject)) {
            return Err(Refusal::Subject);
        }
        Ok(told)
    }
}

/// Names come from whoever has signed a certificate: what a header can't have is
/// not in it.
fn value(text: &str) -> HeaderValue {
    let safe: String =
        text.chars().map(|char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' }).collect();
    HeaderValue::from_str(&safe).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A name as RFC 2253 writes it: the last part first.
fn name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let parts: Vec<String> = name
        .iter()
        .map(|part| {
            let attributes = part.iter().map(|attribute| {
                let oid = attribute.attr_type();
                let kind = registry
                    .get(oid)
                    .map_or_else(|| oid.to_id_string(), |entry| short(entry.sn()).to_owned());
                format!("{kind}={}", escaped(attribute.as_str().unwrap_or("?")))
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn short(name: &str) -> &str {
    match name {
        "commonName" => "CN",
        "countryName" => "C",
        "organizationName" => "O",
        "organizationalUnitName" | "organizationalUnit" => "OU",
        "stateOrProvinceName" => "ST",
        "localityName" => "L",
        other => other,
    }
}

/// So that a value can't look like another part of the name.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (place, char) in text.char_indices() {
        let edge = place == 0 || place + char.len_utf8() == text.len();
        if ",+\"\\<>;=".contains(char) || (edge && char == ' ') || (place == 0 && char == '#') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests;
