//! TLS to a backend, which has to prove who it is: a BackendTLSPolicy. Only an
//! Ingress' backend may be anybody, as it is in nginx.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::certificate::covers;
use crate::gateway_api::BackendValidation;

/// How to speak TLS to a backend. Equal ones may share connections.
pub struct BackendTls {
    pub name: ServerName<'static>,
    pub config: Arc<ClientConfig>,
    /// Of everything it was made from.
    pub fingerprint: u64,
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BackendTls {
    /// None: no authority can be read, or the name is none.
    pub fn new(validation: &BackendValidation, authorities: &[&str]) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
                roots.add(certificate.ok()?).ok()?;
            }
        }
        if roots.is_empty() {
            return None;
        }
        let name = ServerName::try_from(validation.hostname.clone()).ok()?;
        let provider = Arc::new(ring::default_provider());
        let alternatives = validation.subject_alt_names.iter();
        let verifier = Verifier {
            roots,
            hosts: alternatives.clone().filter_map(|name| name.hostname.clone()).collect(),
            uris: alternatives.filter_map(|name| name.uri.clone()).collect(),
            provider: provider.clone(),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut hasher = DefaultHasher::new();
        authorities.hash(&mut hasher);
        validation.hostname.hash(&mut hasher);
        for alternative in &validation.subject_alt_names {
            (&alternative.hostname, &alternative.uri).hash(&mut hasher);
        }
        Some(Self { name, config: Arc::new(config), fingerprint: hasher.finish() })
    }

    /// Whoever answers is believed. It is told a name where one is given; None:
    /// that is no name.
    pub fn unverified(name: Option<&str>) -> Option<Self> {
        let told = ServerName::try_from(name.unwrap_or("backend.invalid").to_owned()).ok()?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.enable_sni = name.is_some();
        let mut hasher = DefaultHasher::new();
        ("unverified", name).hash(&mut hasher);
        Some(Self { name: told, config: Arc::new(config), fingerprint: hasher.finish() })
    }
}

/// Believes every certificate, but not that its key is somebody else's.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// As rustls' own, but where alternative names are given one of these has to be
/// in the certificate, and not the name that was asked for.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    hosts: Vec<String>,
    uris: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        if self.hosts.is_empty() && self.uris.is_empty() {
            verify_server_name(&certificate, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = || rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName);
        let parsed = webpki::EndEntityCert::try_from(end_entity).map_err(|_| wrong())?;
        let host = |name: &str| self.hosts.iter().any(|host| covers(&name.to_ascii_lowercase(), host));
        let named = parsed.valid_dns_names().any(host)
            || parsed.valid_uri_names().any(|uri| self.uris.iter().any(|wanted| wanted == uri));
        if named { Ok(ServerCertVerified::assertion()) } else { Err(wrong()) }
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
