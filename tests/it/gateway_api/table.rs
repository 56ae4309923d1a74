//! Requests and what is expected of them, as text:
//!
//! ```text
//! = httproute-matching.yaml                     manifests of a test, of the suite's folder
//! @ same-namespace:80                           which Gateway, and which of its ports
//! @ some-gateway:443 sni example.org            the same under TLS
//! @ some-gateway:443 sni example.org; cert s    as a client that shows what is in the Secret s, if asked
//! @ some-gateway h2                             by HTTP/2
//! GET foo.com/path; Name: value => 200; infra-backend-v1; >name: at the pod; <name: in the response
//! ```
//!
//! The method is GET and the host the Gateway's address unless they are named. After the arrow, in any
//! order: statuses (one of them), a pod's name, `>name: value` in what the pod got, `<name: a|b` in the
//! response, the same with `!` and without a value for what must not be there; `path`, `host`, `proto`,
//! `sni` and `cert` as the pod saw them; `copied NAME` for a pod that must get a copy; `nothing` when
//! there must be no response. `{id}` is another number in every request.
//!
//! A pod must get method, path, host and fields as they were sent, but for those that are named after the
//! arrow. A certificate must have been asked for.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Empty;
use serde_json::Value;

use super::certificates::Shown;
use super::client::{self, Reply};
use super::cluster::{Cluster, INFRA};
use crate::harness::eventually;

/// Runs `table`; panics with everything that is not as expected.
pub async fn run(suite: &Path, table: &str) {
    let mut wrong = Vec::new();
    let mut cluster = None;
    let mut place = Place::default();
    let mut asked = 0;
    let mut files = "";
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(names) = line.strip_prefix("= ") {
            files = names;
            let names: Vec<_> = names.split_whitespace().collect();
            cluster = Some(Cluster::start(suite, &names).await);
        } else if let Some(text) = line.strip_prefix("@ ") {
            place = Place::read(cluster.as_ref().unwrap(), text);
        } else {
            asked += 1;
            let cluster = cluster.as_ref().unwrap();
            if let Err(problem) = check(cluster, &place, line).await {
                wrong.push(format!("{files}\n    {line}\n    {problem}"));
            }
        }
    }
    assert!(asked > 0);
    assert!(wrong.is_empty(), "{} of {asked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Where requests go.
#[derive(Default)]
struct Place {
    address: Option<SocketAddr>,
    sni: Option<String>,
    certificate: Option<String>,
    http2: bool,
}

impl Place {
    fn read(cluster: &Cluster, text: &str) -> Self {
        let (gateway, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (name, port) = gateway.split_once(':').unwrap_or((gateway, "80"));
        let mut place =
            Self { address: Some(cluster.address(name, port.parse().unwrap())), ..Self::default() };
        for part in rest.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once(' ') {
                Some(("sni", name)) => place.sni = Some(name.to_owned()),
                Some(("cert", name)) => place.certificate = Some(name.to_owned()),
                None if part == "h2" => place.http2 = true,
                _ => panic!("{part:?} is no part of a place"),
            }
        }
        place
    }
}

async fn check(cluster: &Cluster, place: &Place, line: &str) -> Result<(), String> {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let line = line.replace("{id}", &REQUESTS.fetch_add(1, Ordering::Relaxed).to_string());
    let (request, expected) = line.split_once("=>").unwrap_or_else(|| panic!("no arrow in {line:?}"));
    let address = place.address.unwrap();
    let request = read_request(request.trim(), address);
    let path = request.uri().to_string();
    let sent = request.clone();
    let shown = place.certificate.as_deref().map(|secret| cluster.certificates.shown(secret));
    let tls = place.sni.as_deref().map(|name| (name, cluster.certificates.client(shown.clone())));
    let expected: Vec<_> = expected.split(';').map(str::trim).filter(|part| !part.is_empty()).collect();
    let reply = match place.http2 {
        false => client::ask(address, tls, request).await,
        true => client::ask_http2(address, tls, request).await,
    };
    if !shown.as_deref().is_none_or(Shown::was_asked_for) {
        return Err("nobody asked for the certificate".to_owned());
    }
    if expected == ["nothing"] {
        return reply.map_or(Ok(()), |reply| Err(format!("answered {reply:?}")));
    }
    let reply = reply?;
    if !expected.iter().any(|part| part.starts_with(|first: char| first.is_ascii_digit()))
        && reply.status != 200
    {
        return Err(format!("answered {}", reply.status));
    }
    for part in &expected {
        met(cluster, &reply, part, &path).await?;
    }
    match reply.said.is_object() {
        true => unchanged(&sent, &reply.said, &expected),
        false => Ok(()),
    }
}

/// Whether the pod got what was sent, but for what is `expected` to be otherwise.
fn unchanged(sent: &Request<Empty<Bytes>>, said: &Value, expected: &[&str]) -> Result<(), String> {
    let fields = sent.headers().iter().filter(|(name, _)| *name != "host").map(|(name, value)| {
        let changed = expected.iter().any(|part| {
            let named = part.strip_prefix(">!").or_else(|| part.strip_prefix('>'));
            named.is_some_and(|part| part.split(':').next().unwrap().eq_ignore_ascii_case(name.as_str()))
        });
        (name.as_str(), &said["headers"][name.as_str()], value.to_str().unwrap().to_owned(), changed)
    });
    let starts = |start: &str| expected.iter().any(|part| part.starts_with(start));
    let host = sent.headers()["host"].to_str().unwrap().to_owned();
    let rest = [
        ("the method", &said["method"], sent.method().to_string(), false),
        ("the path", &said["path"], sent.uri().to_string(), starts("path ")),
        ("the host", &said["host"], host, starts("host ")),
    ];
    for (what, found, wanted, changed) in fields.chain(rest) {
        if !changed && *found != *wanted {
            return Err(format!("the pod got {found} for {what}, and {wanted} was sent"));
        }
    }
    Ok(())
}

/// `[METHOD] [host]/path; Name: value`
fn read_request(text: &str, address: SocketAddr) -> Request<Empty<Bytes>> {
    let mut parts = text.split("; ");
    let target = parts.next().unwrap();
    let (method, target) = target.split_once(' ').unwrap_or(("GET", target));
    let slash = target.find('/').unwrap();
    let host = match (&target[..slash], address.port()) {
        ("", 80 | 443) => address.ip().to_string(),
        ("", port) => format!("{}:{port}", address.ip()),
        (host, _) => host.to_owned(),
    };
    let mut builder = Request::builder().method(method).uri(&target[slash..]).header("host", host);
    for part in parts {
        let (name, value) = part.split_once(": ").unwrap_or_else(|| panic!("no field: {part:?}"));
        builder = builder.header(name, value);
    }
    builder.body(Empty::new()).unwrap()
}

/// Whether `part` of what is expected holds.
async fn met(cluster: &Cluster, reply: &Reply, part: &str, path: &str) -> Result<(), String> {
    let said = &reply.said;
    let equal = |what: &str, found: &Value, wanted: &str| match found.as_str() == Some(wanted) {
        true => Ok(()),
        false => Err(format!("{what} is {found} instead of {wanted}")),
    };
    if part.starts_with(|first: char| first.is_ascii_digit()) {
        let statuses: Vec<u16> = part.split(',').map(|code| code.parse().unwrap()).collect();
        return match statuses.contains(&reply.status) {
            true => Ok(()),
            false => Err(format!("answered {}: {said}", reply.status)),
        };
    }
    if let Some(name) = part.strip_prefix("<!") {
        return match reply.headers.get(name) {
            None => Ok(()),
            Some(value) => Err(format!("the response has {name}: {value:?}")),
        };
    }
    if let Some((name, values)) = part.strip_prefix('<').and_then(|part| part.split_once(": ")) {
        let found = joined(&reply.headers, name);
        return match values.split('|').any(|value| found.as_deref() == Some(value)) {
            true => Ok(()),
            false => Err(format!("{name} of the response is {found:?} instead of {values}")),
        };
    }
    if let Some(name) = part.strip_prefix(">!") {
        return match said["headers"].get(name.to_ascii_lowercase()) {
            None => Ok(()),
            Some(value) => Err(format!("the pod got {name}: {value}")),
        };
    }
    if let Some((name, value)) = part.strip_prefix('>').and_then(|part| part.split_once(": ")) {
        return equal(name, &said["headers"][name.to_ascii_lowercase()], value);
    }
    match part.split_once(' ') {
        Some(("path", value)) => equal("the path", &said["path"], value),
        Some(("host", value)) => equal("the host", &said["host"], value),
        Some(("proto", value)) => equal("the protocol", &said["proto"], value),
        Some(("sni", value)) => equal("the name in TLS", &said["tls"]["serverName"], value),
        Some(("cert", secret)) => {
            let wanted = serde_json::to_value(cluster.certificates.der(secret)).unwrap();
            match said["tls"]["client"] == wanted {
                true => Ok(()),
                false => Err("the pod saw another certificate, or none".to_owned()),
            }
        }
        Some(("copied", app)) => {
            eventually(&format!("{app} gets a copy of {path}"), || cluster.asked(app, path) > 0).await;
            Ok(())
        }
        None => pod(said, part),
        _ => panic!("{part:?} is nothing to be expected"),
    }
}

/// Whether a pod of `app`, in the suite's own namespace unless there is one in front, said it.
fn pod(said: &Value, app: &str) -> Result<(), String> {
    let (namespace, app) = app.split_once('/').unwrap_or((INFRA, app));
    let name = said["pod"].as_str().and_then(|pod| pod.rsplit_once('-')).map(|(name, _)| name);
    match name == Some(app) && said["namespace"] == namespace {
        true => Ok(()),
        false => Err(format!("answered by {} instead of {app}", said["pod"])),
    }
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
