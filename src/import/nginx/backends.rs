//! Whom nginx passes requests to: `upstream` blocks and URLs become backends.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::Work;
use super::syntax::{Directive, Place};

/// Backends by name, as they are wanted.
#[derive(Debug, Default)]
pub(super) struct Backends(Map<String, Value>);

impl Backends {
    pub(super) fn finish(self) -> Map<String, Value> {
        self.0
    }
}

impl Work<'_> {
    /// The backend that `proxy_pass` means, and the path behind it.
    pub(super) fn backend(&mut self, at: Place, pass: &str) -> Option<(String, String)> {
        let Some((scheme @ ("http" | "https"), rest)) = pass.split_once("://") else {
            self.note(at, format!("proxy_pass {pass} is not carried over"));
            return None;
        };
        let end = rest.find(['/', '$']).filter(|end| *end > 0).unwrap_or(rest.len());
        let (authority, uri) = rest.split_at(end);
        if authority.contains('$') {
            self.note(at, format!("proxy_pass {pass} is not carried over: its host is a variable"));
            return None;
        }
        if authority.contains('@') {
            self.note(at, format!("proxy_pass {pass} is not carried over: a URL has no user here"));
            return None;
        }
        let tls = scheme == "https";
        if tls {
            self.note(at, "nginx does not verify certificates of whom it passes to; here they are verified");
        }
        let http = self.http;
        let Some(upstream) = http.all("upstream").find(|upstream| upstream.argument(0) == authority) else {
            return Some((format!("{scheme}://{authority}"), uri.to_owned()));
        };
        // The same servers may be spoken to in both ways.
        let name = match self.backends.0.get(authority) {
            Some(known) if known.get("tls").is_some() != tls => format!("{authority}-{scheme}"),
            _ => authority.to_owned(),
        };
        if !self.backends.0.contains_key(&name) {
            let backend = self.upstream(upstream, tls);
            self.backends.0.insert(name.clone(), backend);
        }
        Some((name, uri.to_owned()))
    }

    fn upstream(&mut self, upstream: &Directive, tls: bool) -> Value {
        let mut endpoints = Vec::new();
        let mut names = Vec::new();
        for server in &upstream.block {
            match server.name() {
                "server" => {}
                "keepalive" | "keepalive_timeout" | "keepalive_requests" | "zone" | "least_conn" => continue,
                other => {
                    self.note(server.at, format!("{other} of an upstream is not carried over"));
                    continue;
                }
            }
            let address = server.argument(0);
            if let Some(word) = server.words.iter().find(|word| matches!(word.as_str(), "down" | "backup")) {
                self.note(server.at, format!("the server {address} is left out: it is marked {word}"));
                continue;
            }
            let weight =
                server.words.iter().find_map(|word| word.strip_prefix("weight=")?.parse::<u32>().ok());
            for word in server.words.iter().skip(2).filter(|word| !word.starts_with("weight=")) {
                self.note(server.at, format!("{word} of a server is not carried over"));
            }
            let with_port = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
            match (with_port.parse::<SocketAddr>(), weight) {
                (Ok(address), None) => endpoints.push(json!(address.to_string())),
                (Ok(address), Some(weight)) => {
                    endpoints.push(json!({ "address": address.to_string(), "weight": weight }));
                }
                (Err(_), _) => names.push((server.at, with_port)),
            }
        }
        let mut backend = match (endpoints.is_empty(), names.first()) {
            (true, Some((_, name))) => json!({ "dns": name }),
            _ => json!({ "endpoints": endpoints }),
        };
        let left_out = if endpoints.is_empty() { 1 } else { 0 };
        for (line, name) in names.iter().skip(left_out) {
            self.note(*line, format!("{name} is left out: a backend has addresses, or one name"));
        }
        if tls {
            backend["tls"] = json!({});
        }
        backend
    }
}
