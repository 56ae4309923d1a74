//! What a copy is, and what becomes of it wherever it ends.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http::HeaderMap;

use super::*;
use crate::plan::CopyEdits;
use crate::routing::filter::PathRewrite;

#[tokio::test]
async fn a_copy_dropped_at_any_await_is_accounted_for() {
    let (address, _read) = answering(OK).await;
    for with_body in [false, true] {
        let setting = Setting::new(address, |_| {});
        let mut requests = 0;
        let mut finished = false;
        while !finished {
            let length = if with_body { Length::Chunked } else { Length::None };
            let fields: &[_] = if with_body { &[("transfer-encoding", "chunked")] } else { &[] };
            let copy = setting.offer(&head("/", fields), length, |_| {}).expect("nothing stands in its way");
            let feeding = with_body.then(|| feed(&copy, 8));
            finished = poll_at_most(copy.deliver(&setting.worker), requests).await;
            if let Some(feeding) = feeding {
                feeding.await.unwrap();
            }
            requests += 1;
            assert!(requests < 1000, "it never ends");
            setting.assert_settled(requests as u64);
        }
        let delivered = setting.metrics().outcome_total(Outcome::Delivered);
        assert_eq!(
            (delivered, requests > 3),
            (1, true),
            "dropped {requests} times: {:?}",
            setting.outcomes()
        );
    }
}

#[tokio::test]
async fn every_end_of_a_copy_is_one_outcome() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (good, _read) = answering(OK).await;
    let (garbage, _read) = answering("SMTP ready\r\n\r\n").await;
    let (silent, _read) = answering("").await;
    for (address, expected) in [
        (good, Outcome::Delivered),
        (closed, Outcome::FailedConnect),
        (garbage, Outcome::FailedProtocol),
        (silent, Outcome::FailedTimeout),
    ] {
        let setting = Setting::new(address, |mirror| mirror.timeouts.total = Duration::from_millis(100));
        let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
        assert_eq!(copy.deliver(&setting.worker).await.outcome, expected);
        setting.assert_settled(1);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_given_up() {
    let (silent, _read) = answering("").await;
    let setting = Setting::new(silent, |mirror| {
        mirror.timeouts.first_byte = Some(Duration::from_millis(20));
        mirror.timeouts.total = Duration::from_secs(3600);
    });
    let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
    let delivery = copy.deliver(&setting.worker).await;
    assert_eq!(delivery.outcome, Outcome::FailedTimeout);
    assert_eq!(delivery.error.as_deref(), Some("no response within 20ms"));
}

#[tokio::test]
async fn an_answer_that_says_it_is_too_long_is_not_waited_for() {
    let (wordy, _read) = answering("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nand so on").await;
    let setting = Setting::new(wordy, |mirror| mirror.timeouts.total = Duration::from_secs(3600));
    let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
    assert_eq!(copy.deliver(&setting.worker).await.outcome, Outcome::Delivered);
    assert_eq!(setting.metrics().unread_answers_total(), 1);
}

#[tokio::test]
async fn a_copy_is_the_request_with_the_mirrors_edits() {
    let (address, mut read) = answering(OK).await;
    let setting = Setting::new(address, |mirror| {
        mirror.edits = CopyEdits {
            host: Some("next.internal".parse().unwrap()),
            path: Some(PathRewrite::Prefix("/next".into())),
            strip_credentials: true,
            ..CopyEdits::default()
        };
        mirror.edits.headers.set.push(("x-env".parse().unwrap(), "shadow".parse().unwrap()));
        mirror.edits.headers.remove.push("x-secret".parse().unwrap());
    });
    let fields = [
        ("authorization", "Bearer a"),
        ("proxy-authorization", "Basic b"),
        ("cookie", "c=d"),
        ("x-secret", "1"),
        ("x-kept", "1"),
        ("expect", "100-continue"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let parts = head("/api/x?q=1", &fields);
    let copy = setting.offer(&parts, Length::None, |subject| subject.prefix = "/api".len()).unwrap();
    assert_eq!(copy.deliver(&setting.worker).await.outcome, Outcome::Delivered);
    let sent = read.recv().await.unwrap();
    assert!(sent.starts_with("POST /next/x?q=1 HTTP/1.1\r\nhost: next.internal\r\n"), "{sent}");
    for part in ["x-kept: 1\r\n", "x-env: shadow\r\n", "x-mirrorgate-copy: 1\r\n", "x-mirrorgate-token: "] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    assert!(sent.contains("tracestate: mirrorgate=copy-of:b7ad6b7169203331\r\n"), "{sent}");
    for gone in ["authorization", "cookie", "x-secret", "expect", "-b7ad6b7169203331-"] {
        assert!(!sent.contains(gone), "{gone} in {sent}");
    }
    assert_eq!(parts.headers.len(), fields.len() + 2, "the primary's head is its own");
}

#[tokio::test]
async fn a_large_body_can_be_left_out_of_the_copy() {
    let (address, mut read) = answering(OK).await;
    let setting = Setting::new(address, |mirror| {
        (mirror.max_body, mirror.on_oversize) = (Some(1000), Oversize::HeadersOnly);
    });
    let parts = head("/", &[("content-length", "5000")]);
    let copy = setting.offer(&parts, Length::Exact(5000), |_| {}).unwrap();
    assert!(copy.reader().is_none());
    assert_eq!(copy.deliver(&setting.worker).await.outcome, Outcome::Delivered);
    let sent = read.recv().await.unwrap();
    assert!(
        sent.contains("content-length: 0\r\n") && sent.contains("x-mirrorgate-omitted-body: 5000\r\n"),
        "{sent}"
    );
    assert_eq!(setting.metrics().omitted_bodies_total(), 1);
    let small = setting.offer(&head("/", &[]), Length::Exact(1000), |_| {}).unwrap();
    assert!(small.reader().is_some());
}

#[tokio::test]
async fn answers_are_compared_whichever_comes_first() {
    let (address, _read) = answering("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    let setting = Setting::new(address, |_| {});
    for primary_first in [true, false] {
        let copy = setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap();
        let pair = copy.pair().clone();
        let primary = || pair.answered(Lane::Primary, http::StatusCode::OK, WorkerId(0));
        if primary_first {
            primary();
        }
        copy.deliver(&setting.worker).await;
        if !primary_first {
            primary();
        }
    }
    assert_eq!(setting.metrics().worse_total(), 2);
    assert_eq!(setting.mirror().budget.reading().errors, 2);
    for lane in Lane::ALL {
        assert_eq!(setting.metrics().answer_quantiles(lane, [0.5]).unwrap().1, 2);
    }
}

#[tokio::test]
async fn a_copy_that_comes_back_is_known_by_its_token() {
    let (address, mut read) = answering(OK).await;
    let setting = Setting::new(address, |_| {});
    setting.offer(&head("/", &[]), Length::None, |_| {}).unwrap().deliver(&setting.worker).await;
    let sent = read.recv().await.unwrap();
    let field = |name: &str| {
        let line = sent.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let come_back = |fields: &[(&'static str, String)]| {
        let mut headers = HeaderMap::new();
        headers.insert("host", "a".parse().unwrap());
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        let mut parts = Request::get("/").body(()).unwrap().into_parts().0;
        parts.headers = headers;
        let client = crate::proxy::sanitize::ClientInfo::new("10.0.0.1:1".parse().unwrap(), false);
        let trust = setting.table.trust();
        let target = crate::proxy::sanitize::inbound(&mut parts, &client, trust, || [1, 2]).unwrap();
        target.copy_hops.is_some() || (target.copy_token && setting.table.guard().knows(&parts.headers))
    };
    let token = ("x-mirrorgate-token", field("x-mirrorgate-token"));
    let marker = ("x-mirrorgate-copy", field("x-mirrorgate-copy"));
    assert!(come_back(&[marker.clone(), token.clone()]));
    assert!(come_back(std::slice::from_ref(&token)), "a gateway between took the marker away");
    assert!(!come_back(&[marker]), "anybody can send a marker");
    assert!(!come_back(&[("x-mirrorgate-token", "0".repeat(32))]));
}

/// Polls `future` at most `times`; whether it came to its end.
async fn poll_at_most<F: Future>(future: F, times: usize) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if polls == times {
            return Poll::Ready(false);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            // Woken or not, it is dropped after as many polls.
            Poll::Pending => {
                if polls == times {
                    return Poll::Ready(false);
                }
                Poll::Pending
            }
        }
    })
    .await
}
