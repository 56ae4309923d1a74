//! Endpoints that are known by other names than the one that is asked for: a chain that leads to a
//! root, and one of some subject names.

use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use crate::plan::SubjectName;
use crate::tls::x509::Facts;
use crate::tls::{provider, signatures_verified};

/// Takes certificates that lead to a root and have one of some names.
#[derive(Debug)]
pub(super) struct ByName {
    roots: Arc<RootCertStore>,
    names: Vec<SubjectName>,
}

impl ByName {
    /// `None` when there is no root.
    pub(super) fn new(roots: Arc<RootCertStore>, names: Vec<SubjectName>) -> Option<Self> {
        (!roots.is_empty()).then_some(Self { roots, names })
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

    signatures_verified!();
}
