//! Endpoints that are known by other names than the one that is asked for: a chain that leads to a
//! root, and one of some subject names.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::plan::SubjectName;
use crate::tls::provider;
use crate::tls::x509::Facts;

/// Takes certificates that lead to a root and have one of some names.
#[derive(Debug)]
pub(super) struct ByName {
    roots: Arc<RootCertStore>,
    names: Vec<SubjectName>,
    /// Verifies signatures, which names are no part of.
    signatures: Arc<WebPkiServerVerifier>,
}

impl ByName {
    /// `None` when there is no root.
    pub(super) fn new(roots: Arc<RootCertStore>, names: Vec<SubjectName>) -> Option<Self> {
        let builder = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider().clone());
        Some(Self { roots, names, signatures: builder.build().ok()? })
    }

    fn has_name(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        let uris = Facts::of(certificate).map(|facts| facts.uris).unwrap_or_default();
        self.names.iter().any(|name| match name {
            SubjectName::Uri(uri) => uris.contains(uri),
            SubjectName::Dns(name) => ServerName::try_from(name.as_str())
                .is_ok_and(|name| verify_server_name(parsed, &name).is_ok()),
        })
    }
}

impl ServerCertVerifier for ByName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        match self.has_name(certificate, &parsed) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
