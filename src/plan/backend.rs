//! Who requests go to: a pool's name, its source, and how its endpoints are spoken to.

use std::sync::Arc;

use http::HeaderValue;

use super::BackendPolicy;
use crate::discovery::source::SourceSpec;
use crate::tls::{CertificatePlan, PemSource};

/// A named pool of endpoints, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendSpec {
    /// Its name in the configuration, or its URL.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub source: SourceSpec,
    /// How its endpoints are spoken to.
    pub protocol: Protocol,
    /// `Some` sends this Host upstream instead of the client's (`host: upstream`).
    pub host: Option<HeaderValue>,
    /// What it does with its endpoints.
    pub policy: BackendPolicy,
    /// What lies between the protocol and the socket.
    pub transport: Transport,
}

/// What lies between the protocol and the socket to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// `Some` speaks TLS.
    pub tls: Option<BackendTls>,
    /// `Some` begins each connection with a PROXY protocol header, which names the client.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// TLS to the endpoints of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendTls {
    /// The roots that certificates must lead to; `None` is what the system trusts.
    pub ca: Option<PemSource>,
    /// The name that is asked for and verified; `None` verifies the endpoint's IP address.
    pub server_name: Option<Arc<str>>,
    /// What we show when we are asked who we are.
    pub certificate: Option<CertificatePlan>,
    /// Names one of which its certificate must have, instead of `server_name`, which then is only asked
    /// for; empty verifies `server_name`.
    pub subject_names: Vec<SubjectName>,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// A DNS name; one in the certificate may be a wildcard.
    Dns(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
}

impl BackendTls {
    /// The files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        let certificate = self.certificate.iter().flat_map(CertificatePlan::files);
        self.ca.iter().filter_map(PemSource::file).chain(certificate)
    }
}

/// What is spoken to a backend's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 in plain text.
    #[default]
    Http1,
    /// HTTP/2 in plain text, with prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
    /// Over TLS, HTTP/2 where the endpoint speaks it and HTTP/1.1 else.
    Auto,
}
