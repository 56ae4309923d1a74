//! TLS on both sides: one gateway speaks it to another, which ends it.

use crate::harness::{Authority, Gateway, Upstream, chunked, gateway, noise};

/// A gateway that ends TLS for `shop.test`, in front of `upstream`.
async fn edge(authority: &Authority, upstream: &Upstream, tls: &str) -> Gateway {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0', name: edge, tls: {{ certificates: [{{ cert: shop.crt, key: shop.key }}]{tls} }} }}]\n\
         admin: off\nworkers: 2\nroutes: [{{ backend: 'http://{}' }}]",
        upstream.address
    );
    Gateway::start(&text, authority.path(), None).await
}

/// A gateway whose one backend is `edge`, spoken to by `protocol` and `tls`.
async fn before(edge: &Gateway, authority: &Authority, protocol: &str, tls: &str) -> Gateway {
    let text = format!(
        "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\nroutes: [{{ backend: edge, mirrors: [edge] }}]\n\
         backends: {{ edge: {{ endpoints: ['{}'], protocol: {protocol}, tls: {{ {tls} }} }} }}",
        edge.address
    );
    Gateway::start(&text, authority.path(), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_copies_go_through_tls_in_either_protocol() {
    let authority = Authority::new();
    authority.sign("shop", "shop.test");
    let upstream = Upstream::answering(|request| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", request.body.len(), request.text())
    })
    .await;
    let edge = edge(&authority, &upstream, "").await;
    let mut seen = 0;
    for (protocol, connections) in [("http1", 2), ("h2", 2), ("auto", 2)] {
        let handshakes = edge.sum("mirrorgate_tls_handshakes_total", &[]);
        let gateway = before(&edge, &authority, protocol, "ca: ca.crt, server_name: shop.test").await;
        let mut client = gateway.connect().await;
        for count in 1..=5 {
            let body: Vec<u8> = noise(count, 200_000).iter().map(|byte| b'a' + byte % 26).collect();
            let mut request =
                b"POST /x HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            request.extend(chunked(&body, 7000, ""));
            client.send(request).await;
            let response = client.response().await;
            assert!(response.status() == 200 && response.body == body, "{protocol}: {}", response.line);
            gateway.outcome("delivered", count).await;
            seen += 2;
            let got = upstream.received(seen).await;
            assert!(got.iter().rev().take(2).all(|request| request.body == body), "{protocol}");
            assert!(got.iter().all(|request| request.field("x-forwarded-proto") == Some("https")));
        }
        gateway.settled().await;
        // One connection for each lane, all of them used again and again.
        let made = edge.sum("mirrorgate_tls_handshakes_total", &[]) - handshakes;
        assert_eq!(made, f64::from(connections), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_verified_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("shop", "shop.test");
    std::fs::copy(other.path().join("ca.crt"), authority.path().join("other.crt")).unwrap();
    let upstream = Upstream::saying("secret").await;
    let edge = edge(&authority, &upstream, "").await;
    for tls in [
        "ca: other.crt, server_name: shop.test",
        "ca: ca.crt, server_name: other.test",
        "ca: ca.crt",
        "server_name: shop.test",
        "ca: missing.crt, server_name: shop.test",
    ] {
        let gateway = before(&edge, &authority, "http1", tls).await;
        let response = gateway.get("/").await;
        assert_eq!((response.status(), response.text().as_str()), (502, "no TLS with the backend"), "{tls}");
        gateway.outcome("failed_tls", 1).await;
        gateway.settled().await;
    }
    // Who speaks no TLS at all.
    let plaintext = Upstream::script(|mut served| async move {
        served.wire.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        served.hang().await;
    })
    .await;
    let plain = gateway(&format!(
        "routes: [{{ backend: app }}]\nbackends: {{ app: {{ endpoints: ['{}'], tls: {{}} }} }}",
        plaintext.address
    ))
    .await;
    assert_eq!(plain.get("/").await.status(), 502);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_named_to_backends_and_cannot_name_themselves() {
    let authority = Authority::new();
    authority.sign("shop", "shop.test");
    authority.sign("me", "me.test");
    let upstream = Upstream::saying("ok").await;
    let forged = "GET / HTTP/1.1\r\nhost: shop.test\r\nx-forwarded-client-cert: Hash=0\r\n\r\n";
    for (mode, anonymous) in [("require", 502), ("optional", 200)] {
        let edge = edge(&authority, &upstream, &format!(", client: {{ ca: ca.crt, mode: {mode} }}")).await;
        let known = "ca: ca.crt, server_name: shop.test, certificate: { cert: me.crt, key: me.key }";
        let gateway = before(&edge, &authority, "http1", known).await;
        let before_this = upstream.count();
        assert_eq!(gateway.ask(forged).await.status(), 200);
        let got = upstream.received(before_this + 1).await;
        let named = got.last().unwrap().field("x-forwarded-client-cert").unwrap().to_string();
        assert!(named.contains("Subject=\"CN=me,") || named.contains("CN=me"), "{named}");
        assert!(named.ends_with("DNS=me.test") && !named.contains("Hash=0;"), "{named}");
        gateway.settled().await;
        let before_this = upstream.count();
        let gateway = before(&edge, &authority, "http1", "ca: ca.crt, server_name: shop.test").await;
        let response = gateway.ask(forged).await;
        assert!([anonymous, 504].contains(&response.status()), "{mode}: {}", response.line);
        if anonymous == 200 {
            let got = upstream.received(before_this + 1).await;
            assert_eq!(got.last().unwrap().field("x-forwarded-client-cert"), None);
        }
    }
}

/// New files are served without a connection being lost, under requests all the while.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_under_load() {
    let authority = Authority::new();
    authority.sign("shop", "shop.test");
    let upstream = Upstream::saying("ok").await;
    let edge = edge(&authority, &upstream, "").await;
    let gateway = before(&edge, &authority, "h2", "ca: ca.crt, server_name: shop.test").await;
    let mut kept = gateway.connect().await;
    for round in 0..3 {
        authority.sign("shop", if round == 2 { "renamed.test" } else { "shop.test" });
        for _ in 0..20 {
            kept.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(kept.response().await.status(), 200);
        }
    }
    // The connection of before goes on with what it began with; the last file is served to new ones.
    edge.counts("mirrorgate_certificate_expiry_timestamp_seconds", &["name=\"shop.test\""], 0.0).await;
    assert!(
        edge.sum(
            "mirrorgate_certificate_expiry_timestamp_seconds",
            &["listener=\"edge\"", "name=\"renamed.test\""]
        ) > 0.0
    );
    kept.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(kept.response().await.status(), 200);
    let fresh = before(&edge, &authority, "h2", "ca: ca.crt, server_name: shop.test").await;
    assert_eq!(fresh.get("/").await.status(), 502);
    let fresh = before(&edge, &authority, "h2", "ca: ca.crt, server_name: renamed.test").await;
    assert_eq!(fresh.get("/").await.status(), 200);
}
