//! TLS of listeners and of backends: names of files, not what is in them. Those are read when a
//! configuration is put into use, and by `check`.

use std::path::Path;
use std::sync::Arc;

use crate::config::decode::{Located, Report};
use crate::config::error::Problem;
use crate::config::http_values::{ClientModeWord, FilePath, TlsVersionWord};
use crate::config::raw;
use crate::discovery::source::{EndpointAddress, SourceSpec};
use crate::plan::{BackendTls, ClientVerification, ListenerTls};
use crate::tls::{CertificatePlan, PemSource};

pub(super) fn listener(raw: &raw::ListenerTls, base: &Path, report: &mut Report<'_>) -> ListenerTls {
    if raw.certificates.length == 0 {
        let problem = Problem::new("there is no certificate");
        report.error(
            raw.certificates.at,
            problem.hint("name at least one, as { cert: tls.crt, key: tls.key }"),
        );
    }
    ListenerTls {
        certificates: raw.certificates.items.iter().map(|raw| certificate(raw, base)).collect(),
        client: raw.client.as_ref().map(|client| ClientVerification {
            ca: file(&client.ca, base),
            required: client.mode.as_ref().is_none_or(|mode| mode.value == ClientModeWord::Require),
            fallback: false,
        }),
        tls13_only: raw.min_version.as_ref().is_some_and(|version| version.value == TlsVersionWord::V13),
    }
}

/// `source` says which name stands for the endpoints when none is given.
pub(super) fn backend(
    raw: &raw::BackendTls,
    source: &SourceSpec,
    base: &Path,
    report: &mut Report<'_>,
) -> BackendTls {
    let server_name: Option<Arc<str>> = match (&raw.server_name, source) {
        (Some(name), _) => Some(name.value.0.as_str().into()),
        (None, SourceSpec::Dns { host, .. }) => Some(host.trim_end_matches('.').into()),
        (None, SourceSpec::Srv(name)) => {
            Some(name.splitn(3, '.').last().unwrap_or_default().trim_end_matches('.').into())
        }
        (None, SourceSpec::Static(endpoints)) => {
            if endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Unix(_))) {
                let problem = Problem::new("a Unix socket has no name that could be verified");
                report.error(raw.given.at, problem.hint("give `server_name`"));
            }
            None
        }
        (None, SourceSpec::File(_) | SourceSpec::Kubernetes { .. }) => None,
    };
    BackendTls {
        ca: raw.ca.as_ref().map(|ca| file(ca, base)),
        server_name,
        certificate: raw.certificate.as_ref().map(|raw| certificate(raw, base)),
        subject_names: Vec::new(),
    }
}

fn certificate(raw: &raw::Certificate, base: &Path) -> CertificatePlan {
    CertificatePlan { cert: file(&raw.cert, base), key: file(&raw.key, base) }
}

fn file(path: &Located<FilePath>, base: &Path) -> PemSource {
    PemSource::File(base.join(&path.value.0))
}
