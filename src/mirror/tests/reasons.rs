//! Outcomes that take some staging.

use super::*;
use crate::discovery::source::SourceSpec;

#[tokio::test]
async fn a_name_that_does_not_resolve_is_no_mere_lack_of_endpoints() {
    let (address, _read) = answering(OK).await;
    let mut setting = Setting::new(address, |_| {});
    setting.plan.backends[0].source = SourceSpec::Dns { host: "next.invalid".into(), port: 80 };
    setting.reload(|_| {});
    let ask = || setting.offer(&head("/", &[]), Length::None, |_| {});
    let backend = setting.mirror().backend.clone();
    backend.publish(&[], Instant::now());
    assert!(ask().is_none());
    assert_eq!(setting.outcomes(), [(Outcome::SkippedNoEndpoints, 1)], "nobody has looked yet");
    backend.fail("next.invalid does not exist".into());
    assert!(ask().is_none());
    assert_eq!(setting.metrics().outcome_total(Outcome::FailedDns), 1);
    backend.publish(&[EndpointSpec::new(address)], Instant::now());
    backend.fail("no answer".into());
    assert!(ask().is_some(), "what it resolved to before is good");
    setting.assert_settled(3);
}

#[tokio::test]
async fn copies_leave_descriptors_to_others() {
    let (address, _read) = answering(OK).await;
    let setting = Setting::new(address, |_| {});
    setting.worker.copies_within(1);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    setting.worker.spawn_copy(async { drop(gone.await) });
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_none());
    assert_eq!(setting.outcomes(), [(Outcome::SkippedOverload, 1)]);
    drop(go);
    while setting.worker.copies_in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_some());
    setting.assert_settled(2);
}

#[tokio::test]
async fn a_mirror_that_needs_a_connection_for_each_copy_does_not_get_them_all() {
    let (address, _read) = answering(OK).await;
    let setting = Setting::new(address, |_| {});
    let pace = setting.mirror().backend.pace();
    let made = |lane| pace.connected(setting.worker.id(), lane, Instant::now() + Duration::from_secs(60));
    let ask = || setting.offer(&head("/", &[]), Length::None, |_| {});
    (0..=2 * crate::limits::CONNECTS_BURST).for_each(|_| made(Lane::Primary));
    assert!(ask().is_some(), "what primaries need is another lane's");
    (0..=2 * crate::limits::CONNECTS_BURST).for_each(|_| made(Lane::Mirror));
    assert!(ask().is_none());
    assert_eq!(setting.metrics().outcome_total(Outcome::SkippedOverload), 1);
    setting.assert_settled(2);
}

/// Answers at once with a head whose body never ends, and reads no more.
async fn early() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            held.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn an_early_answer_makes_no_whole_of_a_copy_that_was_cut() {
    let setting = Setting::new(early().await, |mirror| mirror.lag = 64 * 1024);
    let parts = head("/", &[("transfer-encoding", "chunked")]);
    let copy = setting.offer(&parts, Length::Chunked, |_| {}).unwrap();
    // More than the kernel takes for somebody who does not read.
    let feeding = feed(&copy, 16_384);
    let delivery = copy.deliver(&setting.worker).await;
    assert_eq!((delivery.outcome, delivery.status), (Outcome::CutLag, Some(http::StatusCode::OK)));
    feeding.await.unwrap();
    setting.assert_settled(1);
}
