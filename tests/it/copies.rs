//! What becomes of copies: byte-exact or visibly cut, always counted, and never felt by the primary.

use std::time::Duration;

use crate::harness::{End, Upstream, chunked, eventually, gateway, mirroring, noise, within};

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_every_size_are_byte_exact() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let mut client = gateway.connect().await;
    let mut count = 0;
    for size in [1, 2, 255, 256, 257, 2047, 2048, 2049, 4095, 4096, 16 * 1024, 65_535, 65_537, 900_000] {
        for chunk in [None, Some(1), Some(1000), Some(10_000)] {
            // A million chunks of one byte would only take time.
            if chunk.is_some_and(|chunk| size / chunk > 5_000) {
                continue;
            }
            let body = noise(size as u64, size);
            let framing = match chunk {
                None => format!("content-length: {size}"),
                Some(_) => "trailer: x-sum\r\ntransfer-encoding: chunked".into(),
            };
            let mut request =
                format!("POST /{count} HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\n").into_bytes();
            match chunk {
                None => request.extend_from_slice(&body),
                Some(chunk) => request.extend(chunked(&body, chunk, "x-sum: 7\r\n")),
            }
            client.send(&request).await;
            assert_eq!(client.response().await.text(), "p");
            count += 1;
            for side in [&primary, &mirror] {
                let got = side.received(count).await.swap_remove(count - 1);
                assert!(got.body == body && got.end == End::Complete, "{size} bytes in chunks of {chunk:?}");
                assert_eq!(got.trailers.len(), usize::from(chunk.is_some()));
            }
        }
    }
    gateway.outcome("delivered", count as u64).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_exact_at_any_concurrency() {
    for clients in [1, 16, 200] {
        let echo = |request: &crate::harness::Message| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len())
                + &"x".repeat(request.body.len())
        };
        let (primary, mirror) = (Upstream::answering(echo).await, Upstream::saying("m").await);
        let gateway = mirroring(primary.address, mirror.address, "").await;
        let mut tasks = tokio::task::JoinSet::new();
        let each = 400 / clients.max(4);
        for client in 0..clients {
            let mut wire = gateway.connect().await;
            tasks.spawn(async move {
                for number in 0..each {
                    let size = (client * 7919 + number * 104_729) % 9000;
                    let body = noise((client * each + number) as u64, size);
                    let head = format!(
                        "POST /{client}/{number} HTTP/1.1\r\nhost: test\r\ncontent-length: {size}\r\n\r\n"
                    );
                    wire.send([head.as_bytes(), &body].concat()).await;
                    assert_eq!(wire.response().await.body.len(), size);
                }
            });
        }
        while let Some(done) = within("the clients", tasks.join_next()).await {
            done.unwrap();
        }
        let total = clients * each;
        gateway.outcome("delivered", total as u64).await;
        gateway.settled().await;
        let sorted = |upstream: &Upstream| {
            let mut all: Vec<_> =
                upstream.requests().into_iter().map(|request| (request.line, request.body)).collect();
            all.sort();
            all
        };
        assert!(sorted(&primary) == sorted(&mirror), "{clients} clients");
        assert_eq!(primary.count(), total);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mirror_gets_its_own_copy() {
    let primary = Upstream::saying("p").await;
    let mirrors = [Upstream::saying("1").await, Upstream::saying("2").await, Upstream::saying("3").await];
    let [one, two, three] = mirrors.each_ref().map(|mirror| mirror.address);
    let gateway = gateway(&format!(
        "routes:
           - backend: http://{}
             mirrors:
               - http://{one}
               - {{ backend: 'http://{two}', headers: {{ set: {{ x-env: shadow }} }} }}
               - {{ backend: 'http://{three}', methods: [GET] }}
               - {{ backend: 'http://{three}', percent: 0 }}",
        primary.address
    ))
    .await;
    let body = noise(1, 100_000);
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    gateway.ask([head.as_bytes(), &body].concat()).await;
    for side in [&mirrors[0], &mirrors[1], &primary] {
        assert!(side.received(1).await[0].body == body);
    }
    assert_eq!(mirrors[1].requests()[0].field("x-env"), Some("shadow"));
    assert_eq!(primary.requests()[0].field("x-env"), None);
    gateway.outcome("delivered", 2).await;
    gateway.outcome("skipped_method", 1).await;
    gateway.outcome("skipped_sampled_out", 1).await;
    // Two mirrors to one backend have each its own name, and so its own counts.
    let name = |name: &str| format!("mirror=\"http://{three}{name}\"");
    let count = |mirror: &str, outcome: &str| {
        let labels = [name(mirror), format!("outcome=\"{outcome}\"")];
        gateway.sum("mirrorgate_mirror_requests_total", &[&labels[0], &labels[1]])
    };
    assert_eq!((count("", "skipped_method"), count("~2", "skipped_sampled_out")), (1.0, 1.0));
    gateway.settled().await;
    assert_eq!(mirrors[2].connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_requests_is_copied_and_all_are_accounted_for() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let gateway = mirroring(primary.address, mirror.address, "percent: 25").await;
    let mut client = gateway.connect().await;
    for _ in 0..400 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        client.response().await;
    }
    gateway.settled().await;
    // Six standard deviations: it fails once in a billion runs.
    let copied = mirror.count();
    assert!((48..=152).contains(&copied), "{copied} of 400");
    gateway.outcome("delivered", copied as u64).await;
    gateway.outcome("skipped_sampled_out", 400 - copied as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_never_reads_costs_the_primary_nothing_and_is_cut() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::script(|served| served.hang()).await;
    // It is cut at once, and not when its time is over.
    let gateway = mirroring(primary.address, mirror.address, "timeout: 10m").await;
    let body = noise(3, 64 << 20);
    let mut client = gateway.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    assert!(within("the upload", client.push(&body)).await);
    assert_eq!(client.response().await.text(), "p");
    assert!(primary.received(1).await[0].body == body);
    gateway.outcome("cut_lag", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_stops_reading_midway_is_shown_a_broken_copy() {
    let primary = Upstream::saying("p").await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let release = go.clone();
    let seen = std::sync::Arc::new(tokio::sync::Notify::new());
    let begun = seen.clone();
    let mirror = Upstream::script(move |mut served| {
        let (go, seen) = (go.clone(), seen.clone());
        async move {
            let Some(head) = served.wire.head().await else { return };
            seen.notify_one();
            go.notified().await;
            let request = served.wire.body_of(head, false).await;
            served.remember(&request);
        }
    })
    .await;
    for framing in [None, Some(60_000)] {
        let gateway = mirroring(primary.address, mirror.address, "").await;
        let body = noise(4, 24 << 20);
        let mut client = gateway.connect().await;
        let mut request = match framing {
            None => format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes(),
            Some(_) => b"POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        };
        match framing {
            None => request.extend_from_slice(&body),
            Some(size) => request.extend(chunked(&body, size, "")),
        }
        // Cut before it had a connection, a copy would show nothing at all.
        client.send(&request[..1000]).await;
        within("the copy's head", begun.notified()).await;
        assert!(within("the upload", client.push(&request[1000..])).await);
        assert_eq!(client.response().await.text(), "p");
        gateway.outcome("cut_lag", 1).await;
        let seen = mirror.count();
        release.notify_one();
        let got = mirror.received(seen + 1).await.swap_remove(seen);
        assert_eq!(got.end, End::Cut);
        assert!(body.starts_with(&got.body), "what came before the cut is as it was");
        gateway.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_mirrors_that_fail() {
    let primary = Upstream::saying("p").await;
    let silent = Upstream::script(|mut served| async move {
        served.request().await;
        served.wire.closed().await;
    })
    .await;
    let closing = Upstream::script(|mut served| async move {
        served.request().await;
    })
    .await;
    let resetting = Upstream::resetting().await;
    let garbage = Upstream::script(|mut served| async move {
        served.request().await;
        served.wire.send("\x16\x03\x01 no http at all\r\n\r\n").await;
    })
    .await;
    let nobody = Upstream::nobody().await;
    for (mirror, outcome) in [
        (silent.address, "failed_timeout"),
        (closing.address, "failed_reset"),
        (resetting.address, "failed_reset"),
        (garbage.address, "failed_protocol"),
        (nobody, "failed_connect"),
    ] {
        let gateway = gateway(&format!(
            "routes: [{{ backend: 'http://{}', mirrors: [{{ backend: 'http://{mirror}', timeout: 200ms }}] }}]",
            primary.address
        ))
        .await;
        for request in [
            "GET / HTTP/1.1\r\nhost: test\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi",
        ] {
            assert_eq!(gateway.ask(request).await.text(), "p", "{outcome}");
        }
        gateway.outcome(outcome, 2).await;
        gateway.settled().await;
    }
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', mirrors: [none] }}]\nbackends: {{ none: {{ endpoints: [] }} }}",
        primary.address
    ))
    .await;
    assert_eq!(gateway.get("/").await.text(), "p");
    gateway.outcome("skipped_no_endpoints", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_mirror_opens_its_breaker() {
    let primary = Upstream::saying("p").await;
    let nobody = Upstream::nobody().await;
    let gateway = gateway(&format!(
        "routes: [{{ backend: 'http://{}', mirrors: ['http://{nobody}'] }}]",
        primary.address
    ))
    .await;
    let mut client = gateway.connect().await;
    for _ in 0..40 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "p");
    }
    gateway.settled().await;
    let skipped = gateway.sum("mirrorgate_mirror_requests_total", &["skipped_breaker"]);
    let failed = gateway.sum("mirrorgate_mirror_requests_total", &["failed_connect"]);
    assert!(skipped > 0.0 && failed >= 5.0 && skipped + failed == 40.0, "{skipped} {failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_read_to_its_cap_and_counts_as_delivered() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::script(|mut served| async move {
        served.request().await;
        let chunk = vec![b'x'; 64 * 1024];
        served.wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        while served.wire.push(&chunk).await {}
    })
    .await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    assert_eq!(gateway.get("/").await.text(), "p");
    gateway.outcome("delivered", 1).await;
    eventually("the mirror's connection closed", || mirror.open() == 0).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_answers_early_and_stops_reading_counts_as_delivered() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::script(|mut served| async move {
        served.wire.head().await;
        served.wire.send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    let gateway = mirroring(primary.address, mirror.address, "").await;
    let body = noise(5, 4 << 20);
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    assert_eq!(gateway.ask([head.as_bytes(), &body].concat()).await.text(), "p");
    assert!(primary.received(1).await[0].body == body);
    gateway.outcome("delivered", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_copies_as_allowed_are_in_flight() {
    let primary = Upstream::saying("p").await;
    let mirror = Upstream::silent().await;
    let gateway = mirroring(primary.address, mirror.address, "budget: { in_flight: 3 }").await;
    let mut client = gateway.connect().await;
    for _ in 0..10 {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "p");
    }
    gateway.outcome("skipped_in_flight", 7).await;
    assert_eq!(gateway.sum("mirrorgate_mirror_in_flight", &[]), 3.0);
    assert_eq!(gateway.sum("mirrorgate_mirror_accounting_error", &[]), 0.0);
    drop(mirror);
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_not_copied_again_and_a_client_cannot_say_so() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let trusting = gateway(&format!(
        "trusted_hops: 1\nroutes: [{{ backend: 'http://{}', mirrors: ['http://{}'] }}]",
        primary.address, mirror.address
    ))
    .await;
    trusting.ask("GET / HTTP/1.1\r\nhost: a\r\nx-mirrorgate-copy: 1\r\n\r\n").await;
    trusting.outcome("skipped_loop", 1).await;
    assert_eq!(primary.requests()[0].field("x-mirrorgate-copy"), Some("1"));
    let wary = mirroring(primary.address, mirror.address, "").await;
    wary.ask("GET / HTTP/1.1\r\nhost: a\r\nx-mirrorgate-copy: 1\r\n\r\n").await;
    wary.outcome("delivered", 1).await;
    assert_eq!(primary.received(2).await[1].field("x-mirrorgate-copy"), None);
    assert_eq!(mirror.received(1).await[0].field("x-mirrorgate-copy"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backend_in_both_lanes_keeps_them_apart() {
    // A primary of one route, it is the mirror of another; as a mirror it is reset each time.
    let shared = Upstream::script(|mut served| async move {
        while let Some(request) = served.request().await {
            if request.field("x-mirrorgate-copy").is_some() {
                return served.reset();
            }
            served.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nshared").await;
        }
    })
    .await;
    let other = Upstream::saying("other").await;
    let gateway = gateway(&format!(
        "routes:
           - {{ name: one, hosts: [one.test], backend: shared }}
           - {{ name: two, hosts: [two.test], backend: 'http://{}', mirrors: [shared] }}
         backends: {{ shared: {{ endpoints: ['{}'] }} }}",
        other.address, shared.address
    ))
    .await;
    let mut client = gateway.connect().await;
    for _ in 0..100 {
        client.send("GET / HTTP/1.1\r\nhost: one.test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "shared");
        client.send("GET / HTTP/1.1\r\nhost: two.test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "other");
    }
    gateway.settled().await;
    gateway.outcome("failed_reset", 100).await;
    gateway
        .counts(
            "mirrorgate_upstream_requests_total",
            &["backend=\"shared\"", "lane=\"primary\"", "code=\"200\""],
            100.0,
        )
        .await;
    gateway
        .counts("mirrorgate_upstream_connects_total", &["backend=\"shared\"", "lane=\"primary\""], 1.0)
        .await;
    gateway.counts("mirrorgate_upstream_retries_total", &["lane=\"primary\""], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_add_up_under_a_mix_of_everything() {
    let primary = Upstream::saying("p").await;
    let fickle = Upstream::script(|mut served| async move {
        let mut turn = served.number;
        while let Some(request) = served.request().await {
            turn += request.line.len();
            match turn % 5 {
                0 => return served.reset(),
                1 => return,
                2 => {
                    served.wire.send("nonsense\r\n\r\n").await;
                    return;
                }
                3 => {
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                _ => {}
            }
            served.wire.send("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno").await;
        }
    })
    .await;
    let stuck = Upstream::script(|served| served.hang()).await;
    let (good, nobody) = (Upstream::saying("m").await, Upstream::nobody().await);
    let gateway = gateway(&format!(
        "routes:
           - backend: http://{}
             mirrors:
               - {{ backend: 'http://{}', timeout: 40ms }}
               - {{ backend: 'http://{}', timeout: 40ms, budget: {{ lag: 64KiB, in_flight: 20 }} }}
               - {{ backend: 'http://{}', percent: 50, methods: [GET, POST] }}
               - {{ backend: 'http://{nobody}' }}
               - none
         backends: {{ none: {{ endpoints: [] }} }}",
        primary.address, fickle.address, stuck.address, good.address
    ))
    .await;
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..24_usize {
        let address = gateway.address;
        tasks.spawn(async move {
            let mut wire = crate::harness::Wire::connect(address).await;
            for number in 0..20_usize {
                let body = noise(number as u64, (client * 1_009 + number * 7_001) % 200_000);
                let (head, payload) = match (client + number) % 4 {
                    0 => (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(number % 7)), Vec::new()),
                    1 => (
                        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()),
                        body,
                    ),
                    2 => (
                        "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".into(),
                        chunked(&body, 3_000, "x: y\r\n"),
                    ),
                    _ => (
                        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len() + 1),
                        body,
                    ),
                };
                wire.send(head).await;
                wire.send(&payload).await;
                if (client + number) % 4 == 3 {
                    // One byte short, and gone.
                    wire.reset();
                    wire = crate::harness::Wire::connect(address).await;
                } else {
                    assert_eq!(wire.response().await.text(), "p");
                }
            }
        });
    }
    while let Some(done) = within("the clients", tasks.join_next()).await {
        done.unwrap();
    }
    gateway.settled().await;
}
