//! What of a request reaches the primary and its copies, and what of a response the client.

use std::time::Duration;

use crate::harness::{End, Upstream, chunked, eventually, gateway, within};

fn to(primary: &Upstream, mirror: &Upstream) -> String {
    format!("routes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]", primary.address, mirror.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_reaches_primary_and_mirror_alike() {
    let (primary, mirror) = (Upstream::saying("primary").await, Upstream::saying("mirror").await);
    let gateway = gateway(&to(&primary, &mirror)).await;
    let response = gateway
        .ask("GET /a/b?c=%20d&e HTTP/1.1\r\nHost: shop.example:81\r\nX-One: 1\r\nx-one: 2\r\n\r\n")
        .await;
    assert_eq!((response.status(), response.text()), (200, "primary".into()));
    let mut copy = mirror.received(1).await.remove(0);
    let request = primary.received(1).await.remove(0);
    assert_eq!(request.line, "GET /a/b?c=%20d&e HTTP/1.1");
    assert_eq!(request.field("host"), Some("shop.example:81"));
    assert_eq!(
        request
            .fields
            .iter()
            .filter(|(name, _)| name == "x-one")
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>(),
        ["1", "2"]
    );
    assert_eq!(request.field("content-length").or(request.field("transfer-encoding")), None);
    // Alike, but for the marks of a copy.
    assert_eq!(copy.field("x-mirrorgate-copy"), Some("1"));
    copy.fields.retain(|(name, _)| !name.starts_with("x-mirrorgate-"));
    assert_eq!(request, copy);
    gateway.outcome("delivered", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_reach_both_as_they_were_framed() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = gateway(&to(&primary, &mirror)).await;
    let mut client = gateway.connect().await;
    let mut sent = 0;
    for method in ["GET", "POST", "DELETE", "OPTIONS", "PUT", "BREW"] {
        let head = format!("{method} /x HTTP/1.1\r\nhost: test\r\n");
        let none = format!("{head}\r\n").into_bytes();
        let empty = format!("{head}content-length: 0\r\n\r\n").into_bytes();
        let exact = format!("{head}content-length: 5\r\n\r\nhello").into_bytes();
        let mut coded = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        let mut coded_empty = coded.clone();
        coded.extend(chunked(b"hello", 2, ""));
        coded_empty.extend(chunked(b"", 1, ""));
        for (message, body, framing) in [
            (none, "", None),
            (empty, "", Some(("content-length", "0"))),
            (exact, "hello", Some(("content-length", "5"))),
            (coded, "hello", Some(("transfer-encoding", "chunked"))),
            (coded_empty, "", Some(("transfer-encoding", "chunked"))),
        ] {
            assert!(client.send(&message).await);
            assert_eq!(client.response().await.text(), "p");
            sent += 1;
            for side in [&primary, &mirror] {
                let requests = side.received(sent).await;
                let got = &requests[sent - 1];
                let found: Vec<_> = ["content-length", "transfer-encoding"]
                    .into_iter()
                    .filter_map(|name| Some((name, got.field(name)?)))
                    .collect();
                assert_eq!(found, framing.into_iter().collect::<Vec<_>>(), "{method} {framing:?}");
                assert_eq!((got.text().as_str(), got.end), (body, End::Complete), "{method} {framing:?}");
            }
        }
    }
    gateway.outcome("delivered", sent as u64).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_trailers_reach_both_without_those_that_would_change_the_message() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = gateway(&to(&primary, &mirror)).await;
    let mut request =
        b"POST / HTTP/1.1\r\nhost: test\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    request.extend(chunked(b"body", 3, "x-sum: 7\r\ncontent-length: 3\r\nauthorization: none\r\n"));
    gateway.ask(request).await;
    for side in [&primary, &mirror] {
        let got = side.received(1).await.remove(0);
        assert_eq!(got.field("trailer"), Some("x-sum"));
        assert_eq!(got.trailers, [("x-sum".to_string(), "7".to_string())]);
    }
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_trailers_reach_a_client_that_asks_for_them() {
    let upstream = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n".into()
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let asked = gateway.ask("GET / HTTP/1.1\r\nhost: test\r\nte: trailers\r\nconnection: te\r\n\r\n").await;
    assert_eq!(asked.trailers, [("x-sum".to_string(), "7".to_string())]);
    // RFC 9110, 10.1.4: TE is of one hop, so the next one is told so.
    let request = upstream.received(1).await.remove(0);
    assert_eq!((request.field("te"), request.field("connection")), (Some("trailers"), Some("TE")));
    assert_eq!(gateway.sum("mirrorgate_trailers_dropped_total", &[]), 0.0);
    let unasked = gateway.get("/").await;
    assert_eq!((unasked.text().as_str(), unasked.trailers.len()), ("hi", 0));
    gateway.counts("mirrorgate_trailers_dropped_total", &[], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_pass_in_neither_direction() {
    let answer = |_: &_| {
        "HTTP/1.1 200 OK\r\nconnection: x-hop, keep-alive\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\n\
         proxy-connection: keep-alive\r\nx-end: 1\r\ncontent-length: 0\r\n\r\n"
            .into()
    };
    let primary = Upstream::answering(answer).await;
    let mirror = Upstream::saying("").await;
    let gateway = gateway(&to(&primary, &mirror)).await;
    let response = gateway
        .ask(
            "GET / HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, X-Hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\
             proxy-connection: x\r\nte: gzip\r\nx-end: 1\r\n\r\n",
        )
        .await;
    let passed = ["connection", "keep-alive", "x-hop", "proxy-connection", "te", "upgrade"];
    for side in [&primary, &mirror] {
        let request = side.received(1).await.remove(0);
        assert_eq!(request.field("x-end"), Some("1"));
        assert!(!request.names().iter().any(|name| passed.contains(&name.as_str())), "{request:?}");
    }
    assert_eq!(response.field("x-end"), Some("1"));
    assert!(!response.names().iter().any(|name| passed.contains(&name.as_str())), "{response:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_response_keeps_its_length() {
    let primary = Upstream::saying("primary").await;
    let mirror = Upstream::saying("mirror").await;
    let gateway = gateway(&to(&primary, &mirror)).await;
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        let response = client.response_to("HEAD").await.unwrap();
        assert_eq!((response.status(), response.field("content-length")), (200, Some("7")));
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "primary");
    }
    assert_eq!(primary.received(6).await[0].line, "HEAD / HTTP/1.1");
    gateway.outcome("delivered", 6).await;
    // The connections were good for all of them: nothing of an answer to HEAD was left or awaited.
    assert_eq!(primary.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_body_are_passed_as_they_are() {
    let upstream = Upstream::answering(|request| match request.line.split(' ').nth(1).unwrap() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 9\r\n\r\n".into(),
        "/205" => "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n".into(),
        _ => "HTTP/1.1 200 Fine By Me\r\ncontent-length: 0\r\n\r\n".into(),
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    for path in ["/204", "/304", "/205", "/200"] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        let response = client.response_to("GET").await.unwrap();
        assert_eq!(format!("/{}", response.status()), path);
        match path {
            "/204" => {
                assert_eq!(response.field("content-length").or(response.field("transfer-encoding")), None)
            }
            "/304" => assert_eq!(
                (response.field("etag"), response.field("transfer-encoding")),
                (Some("\"x\""), None)
            ),
            _ => assert_eq!(response.field("content-length"), Some("0")),
        }
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_ends_with_its_connection_is_complete() {
    let upstream = Upstream::script(|mut served| async move {
        served.request().await;
        served.wire.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.end), ("until the end", End::Complete));
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_stops_midway_does_not_look_complete() {
    for head in ["content-length: 20", "transfer-encoding: chunked"] {
        let upstream = Upstream::script(move |mut served| async move {
            served.request().await;
            served.wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n9\r\n12345")).await;
        })
        .await;
        let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
        let mut client = gateway.connect().await;
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        // Broken off before its head had left, or after.
        let response = client.response_to("GET").await;
        assert!(response.is_none_or(|response| response.end == End::Cut), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_in_each_form_reach_the_primary() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::saying("m").await;
    let gateway = gateway(&to(&primary, &mirror)).await;
    for (target, host, line) in [
        ("*", "a.test", "OPTIONS * HTTP/1.1"),
        ("/", "a.test", "OPTIONS / HTTP/1.1"),
        ("http://a.test/x?y=1", "a.test", "OPTIONS /x?y=1 HTTP/1.1"),
        ("http://a.test", "a.test", "OPTIONS / HTTP/1.1"),
        ("HTTP://A.test:80/x", "a.test", "OPTIONS /x HTTP/1.1"),
    ] {
        let before = primary.count();
        let response = gateway.ask(format!("OPTIONS {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(response.status(), 200, "{target}");
        for side in [&primary, &mirror] {
            let got = side.received(before + 1).await.remove(before);
            assert_eq!((got.line.as_str(), got.field("host")), (line, Some(host)), "{target}");
        }
    }
    assert_eq!(gateway.ask("GET http://b.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n").await.status(), 400);
    assert_eq!(gateway.ask("GET * HTTP/1.1\r\nhost: a.test\r\n\r\n").await.status(), 400);
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_clients_are_served() {
    let upstream = Upstream::saying("hello").await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "hello");
    assert_eq!(client.closed().await, b"");
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("keep-alive")));
    }
    let requests = upstream.received(3).await;
    assert_eq!((requests[0].line.as_str(), requests[0].field("host")), ("GET / HTTP/1.1", Some("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_joins_the_two_connections_and_is_not_copied() {
    let upstream = Upstream::script(|mut served| async move {
        let Some(request) = served.wire.head().await else { return };
        served.remember(&request);
        let early = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly ";
        served.wire.send(early).await;
        while served.wire.more().await {
            let all = served.wire.take(served.wire.unread().len());
            served.wire.send(all).await;
        }
    })
    .await;
    let mirror = Upstream::saying("m").await;
    let gateway = gateway(&to(&upstream, &mirror)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n").await;
    let response = client.response_to("GET").await.unwrap();
    assert_eq!((response.status(), response.field("upgrade")), (101, Some("echo")));
    client.send("one two").await;
    while client.unread() != b"early one two" {
        assert!(client.more().await);
    }
    client.finish().await;
    client.closed().await;
    let request = upstream.received(1).await.remove(0);
    assert_eq!((request.field("connection"), request.field("upgrade")), (Some("upgrade"), Some("echo")));
    gateway.outcome("skipped_upgrade", 1).await;
    gateway.settled().await;
}

/// A tunnel is a connection like any other: it counts, and a drain waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_tunnels() {
    let upstream = Upstream::script(|mut served| async move {
        let Some(_) = served.wire.head().await else { return };
        served
            .wire
            .send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await;
        while served.wire.more().await {
            let all = served.wire.take(served.wire.unread().len());
            served.wire.send(all).await;
        }
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert_eq!(client.response_to("GET").await.unwrap().status(), 101);
    gateway.counts("mirrorgate_client_connections", &[], 1.0).await;
    let address = gateway.address;
    let drained = tokio::spawn(gateway.drain(Duration::ZERO));
    let closed = || std::net::TcpStream::connect(address).is_err();
    eventually("nobody is let in any more", closed).await;
    client.send("still here").await;
    while client.unread() != b"still here" {
        assert!(client.more().await, "the tunnel was cut");
    }
    assert!(!drained.is_finished());
    client.finish().await;
    client.closed().await;
    assert!(within("the end of the drain", drained).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_are_read_over_and_counted() {
    let upstream = Upstream::answering(|_| {
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into()
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    let response = gateway.get("/").await;
    assert_eq!((response.text().as_str(), response.field("link")), ("ok", None));
    gateway.counts("mirrorgate_interim_responses_dropped_total", &[], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_edit_what_both_get_and_what_the_client_gets() {
    let primary =
        Upstream::answering(|_| "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 0\r\n\r\n".into()).await;
    let mirror = Upstream::saying("m").await;
    let gateway = gateway(&format!(
        "routes:
           - backend: http://{}
             matches: [{{ path: {{ prefix: /old }} }}]
             filters:
               request_headers: {{ set: {{ x-set: a }}, add: {{ x-add: b }}, remove: [x-gone] }}
               response_headers: {{ remove: [server], set: {{ x-by: gate }} }}
               host: inner.test
               path: {{ prefix: /new }}
             mirrors:
               - {{ backend: 'http://{}', headers: {{ set: {{ x-set: shadow }}, remove: [x-add] }} }}
           - matches: [{{ path: {{ prefix: /away }} }}]
             redirect: {{ scheme: https, host: else.test, path: {{ prefix: /there }}, status: 308 }}",
        primary.address, mirror.address
    ))
    .await;
    let response =
        gateway.ask("GET /old/x?q HTTP/1.1\r\nhost: test\r\nx-add: a\r\nx-gone: 1\r\nx-set: 0\r\n\r\n").await;
    assert_eq!((response.field("server"), response.field("x-by")), (None, Some("gate")));
    let values = |message: &crate::harness::Message, name: &str| {
        message
            .fields
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
    };
    let request = primary.received(1).await.remove(0);
    assert_eq!(request.line, "GET /new/x?q HTTP/1.1");
    assert_eq!(request.field("host"), Some("inner.test"));
    assert_eq!(
        (values(&request, "x-set"), values(&request, "x-add")),
        (vec!["a".into()], vec!["a".into(), "b".into()])
    );
    assert_eq!(values(&request, "x-gone").len(), 0);
    let copy = mirror.received(1).await.remove(0);
    assert_eq!((copy.line.as_str(), copy.field("host")), ("GET /new/x?q HTTP/1.1", Some("inner.test")));
    assert_eq!((copy.field("x-set"), copy.field("x-add")), (Some("shadow"), None));
    let moved = gateway.get("/away/x?q").await;
    assert_eq!((moved.status(), moved.field("location")), (308, Some("https://else.test/there/x?q")));
    gateway.settled().await;
    assert_eq!(gateway.sum("mirrorgate_route_forwarded_total", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_does_not_go_on() {
    let upstream = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            .into()
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    for connections in 1..=2 {
        let response = gateway.get("/").await;
        assert_eq!((response.text().as_str(), response.end), ("hi", End::Complete));
        // Who frames so may mean something else by it: its connection is not used again.
        assert_eq!(upstream.connections(), connections);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_nobody_asked_for_is_502() {
    let upstream = Upstream::answering(|_| {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".into()
    })
    .await;
    let gateway = gateway(&format!("routes: [{{ backend: 'http://{}' }}]", upstream.address)).await;
    assert_eq!(gateway.get("/").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_fields_say_who_asks() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = gateway(&format!("via: gate\n{}", to(&primary, &mirror))).await;
    let claims = "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n";
    gateway.ask(format!("GET / HTTP/1.1\r\nhost: shop.test\r\n{claims}\r\n")).await;
    for side in [&primary, &mirror] {
        let got = side.received(1).await.remove(0);
        assert!(got.field("x-forwarded-for").is_some_and(|value| value.ends_with("127.0.0.1")), "{got:?}");
        assert_eq!(
            (got.field("x-forwarded-proto"), got.field("x-forwarded-host")),
            (Some("http"), Some("shop.test"))
        );
        assert_eq!(got.field("via"), Some("1.1 gate"));
    }
    let id = |upstream: &Upstream| upstream.requests()[0].field("x-request-id").map(ToString::to_string);
    assert!(id(&primary).is_some() && id(&primary) == id(&mirror));
}
