//! The backends of a configuration, and the one function that turns a reference into one of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;

use super::{endpoints, policy, tls, unknown};
use crate::config::address::Reference;
use crate::config::decode::{Located, Report, Table};
use crate::config::document::At;
use crate::config::error::Problem;
use crate::config::http_values::{HostWord, Name, ProtocolWord, ProxyWord};
use crate::config::{decode::Scalar, raw};
use crate::discovery::source::{EndpointAddress, SourceSpec};
use crate::limits;
use crate::plan::{BackendPolicy, BackendSpec, Protocol, ProxyVersion, Transport};

/// Declared backends in the order of the file, then URLs in the order of their first use.
pub(super) struct BackendTable {
    entries: Vec<Entry>,
    by_name: HashMap<Arc<str>, usize>,
    /// The gateway's zone.
    zone: Option<Arc<str>>,
}

struct Entry {
    name: Arc<str>,
    /// `None` for one that was found wrong: its name is known nonetheless.
    spec: Option<BackendSpec>,
    /// Where it is declared; `None` for a URL.
    declared: Option<At>,
    used: bool,
}

impl BackendTable {
    pub(super) fn new(
        declared: Option<&Table<raw::Backend>>,
        zone: Option<&Arc<str>>,
        base: &Path,
        report: &mut Report<'_>,
    ) -> Self {
        let mut table = Self { entries: Vec::new(), by_name: HashMap::new(), zone: zone.cloned() };
        for (name, raw) in declared.into_iter().flat_map(|table| &table.0) {
            if let Err(problem) = Name::parse(&name.value) {
                report.error(name.at, problem);
            }
            let spec_name: Arc<str> = name.value.as_str().into();
            let spec = raw.as_ref().and_then(|raw| backend(&spec_name, raw, zone, base, report));
            table.insert(Entry { name: spec_name, spec, declared: Some(name.at), used: false });
        }
        table
    }

    /// The name in [`crate::plan::Plan::backends`] of what `reference` means. Primaries and mirrors
    /// alike come through here and through nothing else.
    pub(super) fn reference(
        &mut self,
        reference: &Located<Reference>,
        report: &mut Report<'_>,
    ) -> Option<Arc<str>> {
        let name = match &reference.value {
            Reference::Name(name) => name.as_str(),
            Reference::Url(url) => &url.name,
        };
        if let Some(entry) = self.by_name.get(name).and_then(|index| self.entries.get_mut(*index)) {
            entry.used = true;
            return Some(entry.name.clone());
        }
        match &reference.value {
            Reference::Url(url) => {
                let spec = BackendSpec {
                    name: url.name.clone(),
                    source: url.source.clone(),
                    protocol: url.protocol,
                    host: None,
                    transport: url.transport.clone(),
                    policy: BackendPolicy { zone: self.zone.clone(), ..BackendPolicy::default() },
                };
                let name = url.name.clone();
                self.insert(Entry { name, spec: Some(spec), declared: None, used: true });
                Some(url.name.clone())
            }
            Reference::Name(name) => {
                let declared = self.entries.iter().filter(|entry| entry.declared.is_some());
                let problem = unknown("backend", name, declared.map(|entry| &*entry.name), report);
                let problem = match &problem.hint {
                    None => problem.hint("declare it in `backends`, or write a URL: http://host:port"),
                    Some(_) => problem,
                };
                report.error(reference.at, problem);
                None
            }
        }
    }

    /// All of them; tells which nobody refers to.
    pub(super) fn finish(self, report: &mut Report<'_>) -> Vec<BackendSpec> {
        if self.entries.len() > limits::BACKENDS {
            let problem = format!("{} backends are more than {}", self.entries.len(), limits::BACKENDS);
            report.error(crate::config::document::Document::ROOT, Problem::new(problem));
        }
        for entry in self.entries.iter().filter(|entry| !entry.used) {
            if let Some(at) = entry.declared {
                report.warn(at, Problem::new("no route refers to this backend"));
            }
        }
        self.entries.into_iter().filter_map(|entry| entry.spec).collect()
    }

    fn insert(&mut self, entry: Entry) {
        self.by_name.insert(entry.name.clone(), self.entries.len());
        self.entries.push(entry);
    }
}

fn backend(
    name: &Arc<str>,
    raw: &raw::Backend,
    zone: Option<&Arc<str>>,
    base: &Path,
    report: &mut Report<'_>,
) -> Option<BackendSpec> {
    const SOURCES: [&str; 4] = ["endpoints", "dns", "srv", "file"];
    let mut given = SOURCES.iter().filter(|key| raw.given.key(key).is_some());
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let at = raw.given.key(second).unwrap_or(raw.given.at);
        let problem = Problem::new(format!("`{second}` stands beside `{first}`"));
        report.error(at, problem.hint("a backend has one source of endpoints"));
        return None;
    }
    if !SOURCES.iter().any(|key| raw.given.intended(key)) {
        let problem = Problem::new("it is not said where its endpoints come from");
        report.error(raw.given.at, problem.hint(format!("give one of {}", SOURCES.join(", "))));
        return None;
    }
    let source = if let Some(list) = &raw.endpoints {
        SourceSpec::Static(endpoints::fixed(list, base, report))
    } else if let Some(dns) = &raw.dns {
        SourceSpec::Dns { host: dns.value.host.clone(), port: dns.value.port }
    } else if let Some(srv) = &raw.srv {
        SourceSpec::Srv(srv.value.0.clone())
    } else {
        SourceSpec::File(base.join(&raw.file.as_ref()?.value.0))
    };
    let protocol = match raw.protocol.as_ref().map(|word| word.value) {
        None | Some(ProtocolWord::Http1) => Protocol::Http1,
        Some(ProtocolWord::H2c) => Protocol::H2c,
        Some(ProtocolWord::H2) => Protocol::H2,
        Some(ProtocolWord::Auto) => Protocol::Auto,
    };
    let tls = raw.tls.as_ref().map(|tls| tls::backend(tls, &source, base, report));
    if let (Some(word), false) = (&raw.protocol, raw.given.intended("tls"))
        && matches!(protocol, Protocol::H2 | Protocol::Auto)
    {
        let problem = Problem::new("this protocol is agreed on by TLS, which the backend does not speak");
        report.error(word.at, problem.hint("add `tls: {}`, or write h2c for HTTP/2 in plain text"));
    }
    if let (Some(word), Some(_), Protocol::H2c) = (&raw.protocol, &tls, protocol) {
        let problem = Problem::new("h2c is HTTP/2 in plain text, and the backend speaks TLS");
        report.error(word.at, problem.hint("write h2"));
    }
    let host = match &raw.host {
        Some(Located { value: HostWord::Upstream, at }) => upstream_host(raw, &source, tls.is_some())
            .or_else(|| {
                let problem = Problem::new("the endpoints have no name that could be sent as Host");
                report
                    .error(*at, problem.hint("`host: upstream` goes with `dns`, `srv` and a single address"));
                None
            }),
        Some(Located { value: HostWord::Client, .. }) | None => None,
    };
    let policy = policy::backend(raw, zone, protocol, report);
    let proxy_protocol = raw.proxy_protocol.as_ref().map(|word| match word.value {
        ProxyWord::V1 => ProxyVersion::V1,
        ProxyWord::V2 => ProxyVersion::V2,
    });
    if let (Some(word), false) = (&raw.proxy_protocol, protocol == Protocol::Http1) {
        let problem = Problem::new("a PROXY header names one client, and HTTP/2 connections are shared");
        report.error(word.at, problem.hint("it goes with `protocol: http1`"));
    }
    let transport = Transport { tls, proxy_protocol };
    Some(BackendSpec { name: name.clone(), source, protocol, host, transport, policy })
}

/// The Host by which the backend itself is known.
fn upstream_host(raw: &raw::Backend, source: &SourceSpec, secure: bool) -> Option<HeaderValue> {
    let own_port = if secure { 443 } else { 80 };
    let text = match source {
        SourceSpec::Dns { host, port } if *port == own_port => host.trim_end_matches('.').to_owned(),
        SourceSpec::Dns { host, port } => format!("{}:{port}", host.trim_end_matches('.')),
        SourceSpec::Srv(_) => raw.srv.as_ref()?.value.domain().to_owned(),
        SourceSpec::Static(endpoints) => match endpoints.as_slice() {
            [only] => match &only.address {
                EndpointAddress::Tcp(address) => address.to_string(),
                EndpointAddress::Unix(_) => return None,
            },
            _ => return None,
        },
        SourceSpec::File(_) | SourceSpec::Kubernetes { .. } => return None,
    };
    HeaderValue::from_str(&text).ok()
}
