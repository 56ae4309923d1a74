#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::{Request, Response, Uri};
use proptest::prelude::*;

use super::*;
use crate::limits;

const UNTRUSTED: TrustSettings = TrustSettings { trusted_hops: 0, via: None };
const TRUSTED: TrustSettings = TrustSettings { trusted_hops: 1, via: None };

fn client() -> ClientInfo {
    ClientInfo::new("192.0.2.7:1234".parse().unwrap(), false)
}

fn head(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).uri(target).version(version);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn get(fields: &[(&str, &str)]) -> request::Parts {
    let fields: Vec<_> = [("host", "a.example")].iter().chain(fields).copied().collect();
    head("GET", "/", Version::HTTP_11, &fields)
}

fn sanitize(parts: &mut request::Parts, settings: &TrustSettings) -> Result<Target, Refused> {
    inbound(parts, &client(), settings, || [1, 2])
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn targets_fit_their_method() {
    use TargetForm::*;
    let h1 = Version::HTTP_11;
    let h2 = Version::HTTP_2;
    for (method, target, version, expected) in [
        ("GET", "/", h1, Ok(Origin)),
        ("GET", "/a/%2e%2e/b?%00", h1, Ok(Origin)),
        ("GET", "/*", h1, Ok(Origin)),
        ("GET", "http://a.example/b", h1, Ok(Absolute)),
        ("GET", "HTTP://A.example:80/b", h1, Ok(Absolute)),
        ("OPTIONS", "*", h1, Ok(Asterisk)),
        ("OPTIONS", "/", h1, Ok(Origin)),
        ("CONNECT", "a.example:443", h1, Err(Refused::HostMismatch)),
        ("CONNECT", "a.example", h1, Err(Refused::Target)),
        ("CONNECT", "/", h1, Err(Refused::Target)),
        ("CONNECT", "http://a.example/", h1, Err(Refused::Target)),
        ("GET", "*", h1, Err(Refused::Target)),
        ("GET", "a.example", h1, Err(Refused::Target)),
        ("GET", "a.example:80", h1, Err(Refused::Target)),
        ("GET", "ftp://a.example/", h1, Err(Refused::Target)),
        ("GET", "http://a.example?x", h1, Err(Refused::Target)),
        ("GET", "/a%00", h1, Err(Refused::Target)),
        ("GET", "/a%0a%00b?c", h1, Err(Refused::Target)),
        ("GET", "http://b.example/", h1, Err(Refused::HostMismatch)),
        ("GET", "http://a.example:81/", h1, Err(Refused::HostMismatch)),
        ("GET", "https://a.example:80/", h1, Err(Refused::HostMismatch)),
        ("GET", "http://user@a.example/", h1, Err(Refused::HostMismatch)),
        ("GET", "https://a.example/", h2, Ok(Origin)),
        ("OPTIONS", "https://a.example/", h2, Ok(Origin)),
        ("GET", "https://b.example/", h2, Err(Refused::HostMismatch)),
        ("GET", "ftp://a.example/", h2, Err(Refused::Target)),
        ("CONNECT", "https://a.example/chat", h2, Err(Refused::Target)),
    ] {
        let mut parts = head(method, target, version, &[("host", "a.example")]);
        let found = sanitize(&mut parts, &UNTRUSTED).map(|target| target.form);
        assert_eq!(found, expected, "{method} {target} {version:?}");
    }
    let mut connect = head("CONNECT", "a.example:443", h1, &[("host", "a.example:443")]);
    assert_eq!(sanitize(&mut connect, &UNTRUSTED).unwrap().form, Authority);

    assert_eq!(Refused::TargetTooLong.status(), StatusCode::URI_TOO_LONG);
}

#[test]
fn there_is_one_host() {
    let (h10, h11, h2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
    for (target, version, hosts, expected) in [
        ("/", h11, &["A.example:8080"][..], Ok(Some(("a.example", "A.example:8080")))),
        ("/", h11, &[], Err(Refused::Host)),
        ("/", h11, &["a", "a"], Err(Refused::Host)),
        ("/", h11, &[""], Err(Refused::Host)),
        ("/", h11, &["a, b"], Err(Refused::Host)),
        ("/", h11, &["u@a"], Err(Refused::Host)),
        ("http://a/", h11, &[], Err(Refused::Host)),
        ("http://a/", h11, &["A:80"], Ok(Some(("a", "A:80")))),
        ("/", h10, &[], Ok(None)),
        ("/", h10, &["a"], Ok(Some(("a", "a")))),
        ("/", h10, &["a", "b"], Err(Refused::Host)),
        ("https://A:444/", h2, &[], Ok(Some(("a", "A:444")))),
        ("https://a/", h2, &["a:443"], Ok(Some(("a", "a:443")))),
        ("https://a/", h2, &["b"], Err(Refused::HostMismatch)),
        ("https://a/", h2, &["a", "a"], Err(Refused::Host)),
        ("https://u@a/", h2, &[], Err(Refused::Host)),
        ("/", h2, &["a"], Ok(Some(("a", "a")))),
        ("/", h2, &[], Err(Refused::Host)),
    ] {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let mut parts = head("GET", target, version, &fields);
        let found = sanitize(&mut parts, &UNTRUSTED);
        match expected {
            Err(refused) => assert_eq!(found.unwrap_err(), refused, "{target} {hosts:?}"),
            Ok(expected) => {
                let authority = found.unwrap().authority;
                assert_eq!(authority.as_ref().map(Authority::host), expected.map(|(host, _)| host));
                let written: Vec<_> = expected.into_iter().map(|(_, value)| value).collect();
                assert_eq!(values(&parts.headers, "host"), written, "{target} {hosts:?}");
                assert_eq!(values(&parts.headers, "x-forwarded-host"), written);
            }
        }
    }
}

#[test]
fn hop_by_hop_fields_end_here() {
    for (before, after) in [
        (&[("connection", "keep-alive"), ("keep-alive", "timeout=5")][..], &[][..]),
        (&[("connection", "close"), ("proxy-connection", "close")], &[]),
        (
            &[("connection", "X-A, ,x-b"), ("x-a", "1"), ("x-a", "2"), ("x-b", "3"), ("x-c", "4")],
            &[("x-c", "4")],
        ),
        (&[("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")], &[]),
        (&[("connection", "keep-alive, not a name, \u{e9}")], &[]),
        // What would change framing, target, or what others say of the client.
        (&[("connection", "Host, Content-Length"), ("content-length", "5")], &[("content-length", "5")]),
        (
            &[("connection", "Transfer-Encoding"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked")],
        ),
        (&[("connection", "cookie"), ("cookie", "a=b")], &[("cookie", "a=b")]),
        // Trailers are announced over hops.
        (
            &[("connection", "te"), ("te", "trailers"), ("trailer", "x")],
            &[("te", "trailers"), ("trailer", "x")],
        ),
        (&[("te", "deflate;q=0.5, Trailers")], &[("te", "trailers")]),
        (&[("te", "deflate"), ("te", "trailers")], &[("te", "trailers")]),
        (&[("te", "gzip")], &[]),
        (&[("te", "")], &[]),
        (&[("upgrade", "websocket")], &[]),
        (&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AA")], &[]),
        (
            &[("proxy-authorization", "x"), ("authorization", "y")],
            &[("authorization", "y"), ("proxy-authorization", "x")],
        ),
    ] {
        let mut parts = get(before);
        sanitize(&mut parts, &UNTRUSTED).unwrap();
        let ours = ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];
        let mut left: Vec<_> = parts
            .headers
            .iter()
            .filter(|(name, _)| !ours.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        left.sort_unstable();
        assert_eq!(left, after, "{before:?}");
        assert_eq!(values(&parts.headers, "host"), ["a.example"], "{before:?}");
    }
}

#[test]
fn an_upgrade_is_set_aside() {
    for (fields, version, expected) in [
        (
            &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")][..],
            Version::HTTP_11,
            Some("websocket"),
        ),
        (&[("upgrade", "websocket")], Version::HTTP_11, None),
        (&[("connection", "upgrade")], Version::HTTP_11, None),
        (&[("connection", "upgrade"), ("upgrade", "h2c")], Version::HTTP_11, None),
        (&[("connection", "upgrade"), ("upgrade", "websocket")], Version::HTTP_10, None),
    ] {
        let mut parts = get(fields);
        parts.version = version;
        let upgrade = sanitize(&mut parts, &UNTRUSTED).unwrap().upgrade;
        assert_eq!(upgrade.as_ref().map(|value| value.to_str().unwrap()), expected, "{fields:?}");
    }
}

#[test]
fn http2_has_no_connection_fields_and_one_length() {
    for (fields, expected) in [
        (&[("connection", "close")][..], Some(Refused::ConnectionField)),
        (&[("keep-alive", "1")], Some(Refused::ConnectionField)),
        (&[("proxy-connection", "close")], Some(Refused::ConnectionField)),
        (&[("transfer-encoding", "chunked")], Some(Refused::ConnectionField)),
        (&[("upgrade", "websocket")], Some(Refused::ConnectionField)),
        (&[("te", "gzip")], Some(Refused::ConnectionField)),
        (&[("content-length", "5"), ("content-length", "5")], Some(Refused::ContentLength)),
        (&[("content-length", "+5")], Some(Refused::ContentLength)),
        (&[("content-length", "")], Some(Refused::ContentLength)),
        (&[("x", " a")], Some(Refused::FieldValue)),
        (&[("x", "a\t")], Some(Refused::FieldValue)),
        (&[("content-length", "5"), ("te", "trailers"), ("x", "a b"), ("y", "")], None),
    ] {
        let mut parts = head("POST", "https://a/", Version::HTTP_2, fields);
        assert_eq!(sanitize(&mut parts, &UNTRUSTED).err(), expected, "{fields:?}");
    }
    let mut parts = head("GET", "https://a/", Version::HTTP_2, &[("cookie", "a=b"), ("cookie", "c=d")]);
    sanitize(&mut parts, &UNTRUSTED).unwrap();
    assert_eq!(values(&parts.headers, "cookie"), ["a=b; c=d"]);
}

#[test]
fn the_client_is_who_the_connection_or_a_trusted_hop_says() {
    let sent = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "5.5.5.5, 4.4.4.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
    ];
    let mut parts = get(&[]);
    let target = sanitize(&mut parts, &UNTRUSTED).unwrap();
    assert_eq!(target.client.to_string(), "192.0.2.7");
    assert_eq!(values(&parts.headers, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&parts.headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&parts.headers, "x-forwarded-host"), ["a.example"]);

    for (settings, client, proto, host) in
        [(UNTRUSTED, "192.0.2.7", "http", "a.example"), (TRUSTED, "4.4.4.4", "https", "evil")]
    {
        let mut parts = get(&sent);
        let target = sanitize(&mut parts, &settings).unwrap();
        assert_eq!(target.client.to_string(), client);
        assert_eq!(values(&parts.headers, "x-forwarded-for"), ["6.6.6.6, 5.5.5.5, 4.4.4.4, 192.0.2.7"]);
        assert_eq!(values(&parts.headers, "x-forwarded-proto"), [proto]);
        assert_eq!(values(&parts.headers, "x-forwarded-host"), [host]);
    }

    let mut old = head("GET", "/", Version::HTTP_10, &[("x-forwarded-host", "evil")]);
    sanitize(&mut old, &UNTRUSTED).unwrap();
    assert!(!old.headers.contains_key("x-forwarded-host"), "not even when there is nothing to say");

    let mapped = ClientInfo::new("[::ffff:192.0.2.9]:1".parse().unwrap(), true);
    let mut parts = get(&[]);
    inbound(&mut parts, &mapped, &UNTRUSTED, || [0, 0]).unwrap();
    assert_eq!(values(&parts.headers, "x-forwarded-for"), ["192.0.2.9"]);
    assert_eq!(values(&parts.headers, "x-forwarded-proto"), ["https"]);
}

#[test]
fn an_id_is_kept_or_made() {
    let made = "00000000-0000-4001-8000-000000000002";
    let long = "x".repeat(limits::REQUEST_ID_BYTES + 1);
    for (sent, expected) in [
        (&[][..], made),
        (&["abc-123"], "abc-123"),
        (&["a", "b"], made),
        (&[""], made),
        (&["a b"], made),
        (&[long.as_str()], made),
    ] {
        let fields: Vec<_> = sent.iter().map(|id| ("x-request-id", *id)).collect();
        let mut parts = get(&fields);
        sanitize(&mut parts, &UNTRUSTED).unwrap();
        assert_eq!(values(&parts.headers, "x-request-id"), [expected], "{sent:?}");
    }
}

#[test]
fn a_copys_marker_counts_only_from_a_trusted_hop() {
    for (settings, marker, expected, left) in [
        (UNTRUSTED, "1", None, &[][..]),
        (TRUSTED, "1", Some(1), &["1"]),
        (TRUSTED, "many", Some(limits::MIRROR_HOPS), &["many"]),
    ] {
        let mut parts = get(&[("x-mirrorgate-copy", marker), ("connection", "x-mirrorgate-copy")]);
        assert_eq!(sanitize(&mut parts, &settings).unwrap().copy_hops, expected);
        assert_eq!(values(&parts.headers, "x-mirrorgate-copy"), left);
    }
}

#[test]
fn via_is_written_only_when_asked_for() {
    let settings = TrustSettings { trusted_hops: 0, via: Via::new("edge") };
    let mut parts = get(&[("via", "1.0 other")]);
    sanitize(&mut parts, &settings).unwrap();
    assert_eq!(values(&parts.headers, "via"), ["1.0 other", "1.1 edge"]);
    let mut parts = head("GET", "https://a/", Version::HTTP_2, &[]);
    sanitize(&mut parts, &settings).unwrap();
    assert_eq!(values(&parts.headers, "via"), ["2 edge"]);
    let mut parts = get(&[]);
    sanitize(&mut parts, &UNTRUSTED).unwrap();
    assert!(!parts.headers.contains_key("via"));
    assert!(Via::new("not a token").is_none());
}

#[test]
fn responses_lose_what_was_for_one_hop() {
    let response = |status: u16, fields: &[(&str, &str)]| {
        let mut builder = Response::builder().status(status);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    };
    let fields = [
        ("date", "x"),
        ("connection", "close, x-hop, upgrade"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-sum"),
        ("upgrade", "websocket"),
        ("proxy-authenticate", "Basic"),
    ];
    let mut parts = response(200, &fields);
    outbound(&mut parts, &TrustSettings { trusted_hops: 0, via: Via::new("edge") });
    let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["date", "proxy-authenticate", "trailer", "via"]);

    let mut parts = response(204, &[("content-length", "4"), ("date", "x")]);
    outbound(&mut parts, &UNTRUSTED);
    assert_eq!(parts.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["date"]);

    let mut parts = response(101, &fields);
    outbound(&mut parts, &UNTRUSTED);
    assert_eq!(values(&parts.headers, "connection"), ["upgrade"]);
    assert_eq!(values(&parts.headers, "upgrade"), ["websocket"]);
}

#[test]
fn nobody_vouches_by_another_spelling() {
    let fields = [
        ("x_forwarded_client_cert", "1"),
        ("x-forwarded_client-cert", "1"),
        ("x_forwarded-for", "1"),
        ("x_forwarded_fox", "1"),
        ("x_trace", "1"),
    ];
    let mut parts = head("GET", "/", Version::HTTP_11, &[&fields[..], &[("host", "a")]].concat());
    sanitize(&mut parts, &UNTRUSTED).unwrap();
    let left: Vec<_> = fields.iter().filter(|(name, _)| parts.headers.contains_key(*name)).collect();
    assert_eq!(left, [&("x_forwarded_fox", "1"), &("x_trace", "1")]);
    let mut behind: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    assert_eq!(trailers(&mut behind), 3);
}

#[test]
fn a_split_cookie_is_one_field() {
    let headers = |cookies: usize| -> HeaderMap {
        let cookies = (0..cookies).map(|_| (COOKIE, HeaderValue::from_static("a=b")));
        let others = [HOST, CONNECTION].map(|name| (name, HeaderValue::from_static("a")));
        cookies.chain(others).collect()
    };
    for (cookies, most, too_many) in
        [(0, 2, false), (0, 1, true), (1, 2, true), (1, 3, false), (9, 3, false), (9, 2, true)]
    {
        assert_eq!(has_too_many(&headers(cookies), most), too_many, "{cookies} {most}");
    }
}

#[test]
fn trailers_cannot_change_their_message() {
    let mut fields = HeaderMap::new();
    for name in ["content-length", "host", "authorization", "x-request-id", "grpc-status", "x-sum"] {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        fields.append(HeaderName::from_static(name), HeaderValue::from_static("2"));
    }
    assert_eq!(trailers(&mut fields), 8);
    let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-status", "x-sum"]);
}

fn any_value() -> impl Strategy<Value = HeaderValue> {
    let words = prop::sample::select(vec![
        "close",
        "keep-alive",
        "upgrade",
        "x-a",
        "X-B",
        "te",
        "trailers",
        "host",
        "connection",
        ",",
        " ",
        "\t",
        "chunked",
        "a",
        "[::1]",
        ":80",
        "@",
        "1.1.1.1",
        "websocket",
        "\u{e9}",
        "1",
    ]);
    prop::collection::vec(words, 0..5)
        .prop_map(|words| HeaderValue::from_bytes(words.concat().as_bytes()).unwrap())
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
        "host",
        "x-a",
        "x-b",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
        "x-mirrorgate-copy",
        "cookie",
        "content-length",
        "via",
    ])
}

proptest! {
    #[test]
    fn no_head_panics_and_none_keeps_a_hop(
        method in prop::sample::select(vec!["GET", "OPTIONS", "CONNECT", "POST"]),
        target in "[/*a-c%0?:@.\\[\\]]{1,8}|https?://[a-b@:0-9]{1,5}/?[a-b%0]{0,4}",
        version in prop::sample::select(vec![Version::HTTP_10, Version::HTTP_11, Version::HTTP_2]),
        with_host in any::<bool>(),
        fields in prop::collection::vec((any_name(), any_value()), 0..10),
        trusted_hops in 0_u32..3,
    ) {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let mut parts = head(method, "/", version, &[]);
        parts.uri = uri;
        if with_host {
            parts.headers.insert("host", HeaderValue::from_static("a"));
        }
        for (name, value) in &fields {
            if *name != "host" || !with_host {
                parts.headers.append(*name, value.clone());
            }
        }
        let named: Vec<String> = parts.headers.get_all("connection").iter()
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
            .collect();
        let settings = TrustSettings { trusted_hops, via: None };
        if let Ok(target) = inbound(&mut parts, &client(), &settings, || [3, 4]) {
            for name in ["connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
                prop_assert!(!parts.headers.contains_key(name), "{} is left", name);
            }
            for name in ["x-a", "x-b"] {
                prop_assert!(!named.iter().any(|listed| listed == name) || !parts.headers.contains_key(name));
            }
            prop_assert!(parts.headers.get_all("te").iter().all(|value| value == "trailers"));
            prop_assert!(parts.headers.get_all("te").iter().count() <= 1 || version == Version::HTTP_2);
            for name in ["x-forwarded-for", "x-request-id"] {
                prop_assert_eq!(parts.headers.get_all(name).iter().count(), 1);
            }
            prop_assert_eq!(parts.headers.get_all("host").iter().count(), usize::from(target.authority.is_some()));
            prop_assert!(target.authority.is_some() || version == Version::HTTP_10);
            prop_assert!(trusted_hops > 0 || !parts.headers.contains_key(&COPY_MARKER));
            let path = parts.uri.path();
            prop_assert!(path.starts_with('/') || target.form != TargetForm::Origin);
        }
    }

    #[test]
    fn no_uri_holds_a_control_byte(bytes in prop::collection::vec(any::<u8>(), 1..12)) {
        // What `target_form` relies on.
        if let Ok(uri) = Uri::try_from(bytes) {
            let text = uri.path_and_query().map_or("", |text| text.as_str());
            prop_assert!(text.bytes().all(|byte| byte > 0x20 && byte != 0x7f));
        }
    }
}
