#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

use tokio::task::yield_now;
use tokio::time::timeout;

use super::server::{NameServer, Reply, alias, record, service};
use super::*;
use crate::discovery::source::SourceSpec;
use crate::discovery::tests::{PATIENCE, Running, addresses, until, until_addresses, until_error};

const HOST: &str = "app.test.";
const SERVICE: &str = "_http._tcp.app.test.";

fn source(server: &NameServer) -> DnsSource {
    of(HOST, server.settings())
}

fn of(host: &str, settings: DnsSettings) -> DnsSource {
    DnsSource::addresses(host.to_owned(), 80, Arc::new(DnsClient::new(settings)))
}

fn services(server: &NameServer) -> DnsSource {
    DnsSource::services(SERVICE.to_owned(), Arc::new(DnsClient::new(server.settings())))
}

async fn endpoints(source: &mut DnsSource) -> Vec<String> {
    match source.ask().await.update {
        Update::Full(set) => set.iter().map(|spec| format!("{} {}", spec.address, spec.weight)).collect(),
        other => panic!("{other:?}"),
    }
}

async fn failure(source: &mut DnsSource) -> String {
    match source.ask().await.update {
        Update::Failed(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_families_are_asked_for_and_put_in_order() {
    let server = NameServer::start().await;
    server.set_addresses(HOST, 30, &["127.0.0.3", "::1", "127.0.0.2"]);
    let mut source = source(&server);
    let expected = ["127.0.0.2:80 1", "127.0.0.3:80 1", "[::1]:80 1"];
    assert_eq!(endpoints(&mut source).await, expected);
    server.set_addresses(HOST, 30, &["127.0.0.2", "127.0.0.3", "127.0.0.2", "::1"]);
    assert_eq!(endpoints(&mut source).await, expected, "rotation and repetition are no change");
    assert_eq!(server.asked(HOST, RecordType::A), 2, "nothing is cached");
}

#[tokio::test]
async fn the_time_to_live_is_that_received_within_bounds() {
    let server = NameServer::start().await;
    let mut source = source(&server);
    for (ttl, expected) in [(0, 1), (7, 7), (6, 6), (100_000, 300)] {
        server.set_addresses(HOST, ttl, &["127.0.0.1"]);
        assert_eq!(source.ask().await.refresh, Some(Duration::from_secs(expected)));
    }
    server.set(HOST, RecordType::AAAA, Reply::Records(vec![record(HOST, 5, "::1")]));
    assert_eq!(source.ask().await.refresh, Some(Duration::from_secs(5)), "the shorter of both");
}

#[tokio::test]
async fn one_family_is_enough() {
    let server = NameServer::start().await;
    server.set_addresses(HOST, 30, &["127.0.0.1"]);
    for other in [Reply::Code(ResponseCode::ServFail), Reply::Code(ResponseCode::NXDomain)] {
        server.set(HOST, RecordType::AAAA, other);
        let answer = source(&server).ask().await;
        assert!(matches!(answer.update, Update::Full(set) if set.len() == 1));
        assert_eq!(answer.warning, None);
    }
    let mut source = source(&server);
    server.set_addresses(HOST, 30, &["::1"]);
    assert_eq!(endpoints(&mut source).await, ["[::1]:80 1"]);
}

#[tokio::test]
async fn addresses_of_a_family_that_cannot_be_learned_are_kept_and_that_is_said() {
    let server = NameServer::start().await;
    let mut source = source(&server);
    server.set_addresses(HOST, 30, &["127.0.0.1", "::1"]);
    assert_eq!(endpoints(&mut source).await.len(), 2);
    server.set_addresses(HOST, 30, &["127.0.0.2"]);
    server.set(HOST, RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    let answer = source.ask().await;
    assert!(answer.warning.is_some());
    assert_eq!(answer.refresh, Some(limits::SOURCE_BACKOFF.1));
    assert_eq!(endpoints(&mut source).await, ["127.0.0.2:80 1", "[::1]:80 1"]);
    server.set(HOST, RecordType::AAAA, Reply::Records(Vec::new()));
    assert_eq!(endpoints(&mut source).await, ["127.0.0.2:80 1"], "that it has none is an answer");
}

#[tokio::test]
async fn aliases_are_followed_and_the_shortest_lived_counts() {
    let server = NameServer::start().await;
    // Within one answer, and across answers.
    let chain =
        vec![alias(HOST, 50, "b.test."), alias("b.test.", 20, "c.test."), record("c.test.", 40, "127.0.0.1")];
    server.set(HOST, RecordType::A, Reply::Records(chain));
    server.set(HOST, RecordType::AAAA, Reply::Records(vec![alias(HOST, 10, "d.test.")]));
    server.set_addresses("d.test.", 40, &["::1"]);
    let mut source = source(&server);
    assert_eq!(endpoints(&mut source).await, ["127.0.0.1:80 1", "[::1]:80 1"]);
    assert_eq!(source.ask().await.refresh, Some(Duration::from_secs(10)));
    server.set(HOST, RecordType::AAAA, Reply::Records(Vec::new()));
    assert_eq!(source.ask().await.refresh, Some(Duration::from_secs(20)));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let server = NameServer::start().await;
    let many: Vec<_> = (1..=200).map(|host| record(HOST, 30, &format!("127.0.0.{host}"))).collect();
    server.set_addresses(HOST, 30, &[]);
    server.set(HOST, RecordType::A, Reply::Truncated(many));
    let mut source = source(&server);
    for _ in 0..3 {
        assert_eq!(endpoints(&mut source).await.len(), 200);
    }
    assert_eq!(server.asked_by_tcp(), 3);
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure() {
    let server = NameServer::start().await;
    let quick = DnsSettings { query: Duration::from_millis(200), ..server.settings() };
    let mut source = of(HOST, quick);
    for (reply, error) in [
        (Reply::Code(ResponseCode::ServFail), "Server Failure"),
        (Reply::Code(ResponseCode::Refused), "Query Refused"),
        (Reply::Code(ResponseCode::FormErr), "Form Error"),
        (Reply::Referral, "refers to others"),
        (Reply::Silence, "timed out"),
    ] {
        server.set_both(HOST, &reply);
        let found = failure(&mut source).await;
        assert!(found.contains(error), "{found}");
        // Nothing in one family does not say that there is nothing in the other.
        server.set(HOST, RecordType::A, Reply::Records(Vec::new()));
        assert!(failure(&mut source).await.contains(error));
    }
    let asked = server.asked(HOST, RecordType::A);
    server.set_both(HOST, &Reply::Code(ResponseCode::ServFail));
    failure(&mut source).await;
    assert_eq!(server.asked(HOST, RecordType::A), asked + 1, "retrying is not its business");
}

#[tokio::test]
async fn that_there_is_nothing_is_an_answer() {
    let server = NameServer::start().await;
    let mut source = source(&server);
    let answer = source.ask().await;
    assert_eq!(answer.update, Update::Gone("app.test. does not exist".to_owned()));
    server.set_addresses(HOST, 300, &[]);
    let answer = source.ask().await;
    assert!(matches!(answer.update, Update::Gone(reason) if reason.contains("has no")));
    assert_eq!(answer.refresh, Some(limits::DNS_EMPTY), "it may be filled any time");
}

#[tokio::test]
async fn search_domains_are_tried_in_order_and_a_failure_ends_the_search() {
    let server = NameServer::start().await;
    let search = vec!["one.test".to_owned(), "two.test".to_owned()];
    let mut source = of("app", DnsSettings { search, ..server.settings() });
    server.set_addresses("app.two.test.", 30, &["127.0.0.2"]);
    assert_eq!(endpoints(&mut source).await, ["127.0.0.2:80 1"]);
    assert_eq!(server.asked("app.one.test.", RecordType::A), 1);
    server.set_both("app.one.test.", &Reply::Code(ResponseCode::ServFail));
    failure(&mut source).await;
    server.remove("app.one.test.");
    server.remove("app.two.test.");
    server.set_addresses("app.", 30, &["127.0.0.3"]);
    assert_eq!(endpoints(&mut source).await, ["127.0.0.3:80 1"], "at last the name as it is");
}

#[tokio::test]
async fn known_names_need_no_server_and_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.9 app.test # ours\n::9 app.test\n").unwrap();
    let missing = directory.path().join("resolv.conf");
    let settings = DnsSettings { hosts: hosts.clone(), resolv_conf: missing, ..DnsSettings::default() };
    let mut source = of("app.test", settings.clone());
    assert_eq!(endpoints(&mut source).await, ["127.0.0.9:80 1", "[::9]:80 1"]);
    assert_eq!(endpoints(&mut of("localhost", settings.clone())).await, ["127.0.0.1:80 1", "[::1]:80 1"]);
    assert_eq!(endpoints(&mut of("127.0.0.7", settings.clone())).await, ["127.0.0.7:80 1"]);
    assert!(failure(&mut of("other.test", settings)).await.contains("resolv.conf: No such file"));
    std::fs::write(&hosts, "127.0.0.10 app.test\n").unwrap();
    let seen = timeout(PATIENCE, async {
        while endpoints(&mut source).await != ["127.0.0.10:80 1"] {
            yield_now().await;
        }
    });
    seen.await.expect("the change is seen");
}

#[tokio::test]
async fn a_service_is_its_targets_of_the_lowest_priority() {
    let server = NameServer::start().await;
    server.set_addresses("a.test.", 30, &["127.0.0.1", "::1"]);
    server.set_addresses("b.test.", 20, &["127.0.0.2"]);
    let records = vec![
        service(SERVICE, 60, (20, 1, 9), "c.test."),
        service(SERVICE, 60, (10, 3, 8081), "b.test."),
        service(SERVICE, 60, (10, 1, 8080), "a.test."),
        service(SERVICE, 60, (10, 1, 8082), "missing.test."),
    ];
    server.set(SERVICE, RecordType::SRV, Reply::Records(records));
    let mut source = services(&server);
    let expected = ["127.0.0.1:8080 1", "127.0.0.2:8081 3", "[::1]:8080 1"];
    assert_eq!(endpoints(&mut source).await, expected);
    assert_eq!(server.asked("c.test.", RecordType::A), 0);
    assert_eq!(source.ask().await.refresh, Some(limits::DNS_EMPTY), "the missing one may come");
    server.set_both("b.test.", &Reply::Code(ResponseCode::ServFail));
    assert!(failure(&mut source).await.contains("b.test."), "a list with a hole is no list");
}

#[tokio::test]
async fn weights_of_zero_are_small_beside_others_and_equal_among_themselves() {
    let server = NameServer::start().await;
    server.set_addresses("a.test.", 30, &["127.0.0.1"]);
    let two = |one, other| {
        Reply::Records(vec![
            service(SERVICE, 60, (1, one, 1), "a.test."),
            service(SERVICE, 60, (1, other, 2), "a.test."),
        ])
    };
    let mut source = services(&server);
    server.set(SERVICE, RecordType::SRV, two(0, 0));
    assert_eq!(endpoints(&mut source).await, ["127.0.0.1:1 1", "127.0.0.1:2 1"]);
    server.set(SERVICE, RecordType::SRV, two(0, 5));
    assert_eq!(endpoints(&mut source).await, ["127.0.0.1:1 1", "127.0.0.1:2 500"]);
}

#[tokio::test]
async fn a_service_without_targets_is_gone() {
    let server = NameServer::start().await;
    let mut source = services(&server);
    assert!(matches!(source.ask().await.update, Update::Gone(_)));
    server.set(SERVICE, RecordType::SRV, Reply::Records(vec![service(SERVICE, 60, (0, 0, 0), ".")]));
    assert!(matches!(source.ask().await.update, Update::Gone(_)));
    server.set(SERVICE, RecordType::SRV, Reply::Code(ResponseCode::ServFail));
    failure(&mut source).await;
}

#[tokio::test]
async fn a_backend_follows_its_name_without_traffic() {
    let server = NameServer::start().await;
    server.set_addresses(HOST, 1, &["127.0.0.1"]);
    let running = Running::start(server.settings());
    let backend = running.backend("app", SourceSpec::Dns { host: HOST.to_owned(), port: 80 });
    until_addresses(&backend, &["127.0.0.1:80"]).await;
    server.set_addresses(HOST, 1, &["127.0.0.1", "127.0.0.2"]);
    until_addresses(&backend, &["127.0.0.1:80", "127.0.0.2:80"]).await;
    // A failure keeps what there is, shows, and is tried again with pauses.
    server.set_both(HOST, &Reply::Code(ResponseCode::ServFail));
    until_error(&backend, "Server Failure").await;
    assert_eq!(addresses(&backend).len(), 2);
    let confirmed = backend.freshness().confirmed;
    server.set_addresses(HOST, 1, &["127.0.0.1", "127.0.0.2"]);
    until(&backend, "expected it to heal", |backend| backend.freshness().last_error.is_none()).await;
    assert!(backend.freshness().confirmed > confirmed);
    assert_eq!(backend.endpoints().generation(), 2, "the same set is not another one");
    // Nothing is obeyed after a second look.
    let asked = server.asked(HOST, RecordType::A);
    server.remove(HOST);
    until_error(&backend, "does not exist").await;
    assert!(backend.endpoints().is_empty());
    assert!(server.asked(HOST, RecordType::A) >= asked + 2);
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_back_no_other_backend() {
    let server = NameServer::start().await;
    server.set_both(HOST, &Reply::Silence);
    server.set_addresses("other.test.", 30, &["127.0.0.2"]);
    let running = Running::start(DnsSettings { query: Duration::from_millis(300), ..server.settings() });
    let silent = running.backend("silent", SourceSpec::Dns { host: HOST.to_owned(), port: 80 });
    let other = running.backend("other", SourceSpec::Dns { host: "other.test.".to_owned(), port: 80 });
    until_addresses(&other, &["127.0.0.2:80"]).await;
    until_error(&silent, "timed out").await;
    assert!(*silent.answered().borrow(), "a failure is an answer, too: nobody waits for more");
}
