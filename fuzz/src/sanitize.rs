//! What goes on of any head that the server may hand over: nothing of one hop, one Host, what the
//! gateway itself says of the client, and all else as it was; and once written, it reads the same.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, request};
use mirrorgate::proxy::sanitize::{ClientInfo, TrustSettings, inbound, trailers};
use mirrorgate::upstream::http1::head::{Length, write_request};
use mirrorgate::upstream::message::Head;

use super::choices::Choices;

const ONE_HOP: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings"];
/// What may differ afterwards, for the gateway says it itself, or for it is of one hop.
const OURS: [&str; 13] = [
    "cookie",
    "host",
    "te",
    "trailer",
    "via",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-mirrorgate-copy",
    "x-mirrorgate-token",
    "x-request-id",
    "transfer-encoding",
];

/// Reads `bytes` as version, method, target and fields, each on a line.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let flags = choices.byte();
    let Some(mut parts) = head(&mut choices, flags) else { return };
    let before = parts.clone();
    let client = ClientInfo::new(([192, 0, 2, 7], 4711).into(), flags & 4 != 0);
    let trust = TrustSettings { trusted_hops: u32::from(flags >> 3 & 1), via: None };
    let Ok(target) = inbound(&mut parts, &client, &trust, || [1, 2]) else { return };

    let all = |name: &str| parts.headers.get_all(name).iter().collect::<Vec<_>>();
    for name in ONE_HOP {
        assert!(all(name).is_empty(), "{name} goes on: {parts:?}");
    }
    assert!(all("te").iter().all(|value| *value == "trailers") && all("te").len() <= 1, "{parts:?}");
    assert!(
        all("host").len() == 1 || (parts.version == Version::HTTP_10 && all("host").is_empty()),
        "{parts:?}"
    );
    assert_eq!(target.authority.is_some(), !all("host").is_empty(), "{parts:?}");
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
        assert_eq!(all(name).len(), 1, "{name}: {parts:?}");
    }
    assert!(all("x-forwarded-for")[0].as_bytes().ends_with(b"192.0.2.7"), "{parts:?}");
    assert!(all("x-forwarded-client-cert").is_empty(), "nobody was identified: {parts:?}");
    if trust.trusted_hops == 0 {
        assert!(all("x-mirrorgate-copy").is_empty() && target.copy_hops.is_none(), "{parts:?}");
        assert_eq!(target.client, client.address());
        assert_eq!(all("x-forwarded-proto")[0], client.scheme());
    }
    let named = named(&before);
    let kept = |name: &HeaderName| {
        !OURS.contains(&name.as_str()) && !ONE_HOP.contains(&name.as_str()) && !named.contains(name)
    };
    for name in before.headers.keys().filter(|name| kept(name)) {
        assert!(
            before.headers.get_all(name).iter().eq(all(name.as_str())),
            "{name} of {before:?} is {parts:?}"
        );
    }
    reads_the_same(&parts, target.authority.is_some());

    let mut section = before.headers.clone();
    trailers(&mut section);
    for name in ONE_HOP.iter().chain(&["host", "content-length", "transfer-encoding", "authorization"]) {
        assert!(!section.contains_key(*name), "{name} in trailers");
    }
}

fn head(choices: &mut Choices<'_>, flags: u8) -> Option<request::Parts> {
    let version =
        [Version::HTTP_11, Version::HTTP_2, Version::HTTP_10, Version::HTTP_11][usize::from(flags & 3)];
    let method = Method::from_bytes(choices.until(b'\n')).ok()?;
    let target = Uri::try_from(choices.until(b'\n')).ok()?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (method, target, version);
    for _ in 0..100 {
        let line = choices.until(b'\n');
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        parts.headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(parts)
}

/// What Connection names.
fn named(parts: &request::Parts) -> Vec<HeaderName> {
    let values = parts.headers.get_all("connection").iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok()).collect()
}

/// Written for a backend, the head is one request, with the same method, target and fields.
fn reads_the_same(parts: &request::Parts, host: bool) {
    if parts.method == Method::CONNECT {
        return;
    }
    let mut out = BytesMut::new();
    write_request(&mut out, &Head::new(parts, Length::None), None);
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut read = httparse::Request::new(&mut fields);
    let status = read.parse(&out).unwrap_or_else(|error| panic!("{error}: {out:?}"));
    assert_eq!(status, httparse::Status::Complete(out.len()), "{out:?}");
    assert_eq!(read.method, Some(parts.method.as_str()));
    assert_eq!(read.path, Some(parts.uri.path_and_query().map_or("/", |target| target.as_str())));
    let count =
        |name: &str| read.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert_eq!((count("host"), count("content-length"), count("transfer-encoding")), (1, 0, 0), "{out:?}");
    for (name, value) in &parts.headers {
        let framing = ["host", "content-length", "transfer-encoding"].contains(&name.as_str());
        let found = read
            .headers
            .iter()
            .any(|field| field.name == name.as_str() && field.value == value.as_bytes().trim_ascii());
        assert!(found || framing, "{name} of {parts:?} is not in {out:?}");
    }
    assert!(host || out.starts_with(parts.method.as_str().as_bytes()));
}
