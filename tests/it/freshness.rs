//! Endpoints that change, die and come back while primaries and mirrors are under load: nothing may
//! fail, and nothing may go to an endpoint that is no longer there.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use mirrorgate::shard::Lane;
use mirrorgate::upstream::condition::State;
use mirrorgate::upstream::endpoint::Endpoint;
use tokio::net::TcpListener;

use crate::harness::names::{NameServer, Say};
use crate::harness::{GET, Gateway, H2Upstream, Load, Message, POST, Upstream, eventually, within};

const LANES: [&str; 2] = ["primary", "mirror"];

/// A gateway whose primary and whose mirror have files of endpoints.
struct Pair {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Pair {
    /// `route` and `backend` are what is added to the route and to both backends.
    async fn start(sets: [&[SocketAddr]; 2], route: &str, backend: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, set) in LANES.into_iter().zip(sets) {
            replace(&folder.path().join(format!("{name}.yaml")), &list(set));
        }
        let text = format!(
            "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\n\
             routes: [{{ backend: primary, mirrors: [mirror]{route} }}]\n\
             backends: {{ primary: {{ file: primary.yaml{backend} }}, mirror: {{ file: mirror.yaml{backend} }} }}\n"
        );
        let gateway = Gateway::start(&text, folder.path(), None).await;
        let pair = Self { gateway, folder };
        pair.used(sets).await;
        pair
    }

    /// Replaces both files at once and waits until both are in use.
    async fn publish(&self, sets: [&[SocketAddr]; 2]) {
        for (name, set) in LANES.into_iter().zip(sets) {
            replace(&self.folder.path().join(format!("{name}.yaml")), &list(set));
        }
        self.used(sets).await;
    }

    async fn used(&self, sets: [&[SocketAddr]; 2]) {
        for (name, set) in LANES.into_iter().zip(sets) {
            self.gateway.uses(name, set).await;
        }
    }

    /// The endpoint in use at `address`, of whichever backend.
    fn endpoint(&self, address: SocketAddr) -> Arc<Endpoint> {
        let live = self.gateway.running().registry().live();
        let sets: Vec<_> = live.iter().map(|backend| backend.endpoints()).collect();
        let mut entries = sets.iter().flat_map(|set| set.entries());
        let entry = entries.find(|entry| entry.endpoint.address().to_string() == address.to_string());
        entry.unwrap().endpoint.clone()
    }

    /// How an endpoint of `backend` does.
    fn state(&self, backend: &str, address: SocketAddr) -> Option<State> {
        let live = self.gateway.running().registry().live();
        let set = live.iter().find(|one| &**one.name() == backend)?.endpoints();
        let mut entries = set.entries().iter();
        let entry = entries.find(|entry| entry.endpoint.address().to_string() == address.to_string())?;
        Some(entry.endpoint.condition().state())
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let list: Vec<_> = addresses.iter().map(|address| format!("  - '{address}'\n")).collect();
    if list.is_empty() { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{}", list.concat()) }
}

fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn addresses(upstreams: &[Upstream]) -> Vec<SocketAddr> {
    upstreams.iter().map(|upstream| upstream.address).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_primary_and_mirror_costs_no_request_and_no_copy() {
    const ENDPOINTS: usize = 20;
    const CLIENTS: usize = 8;
    let mut sets = [Vec::new(), Vec::new()];
    for set in &mut sets {
        for _ in 0..ENDPOINTS {
            set.push(Upstream::saying("old").await);
        }
    }
    let in_use = |sets: &[Vec<Upstream>; 2]| sets.each_ref().map(|set| addresses(set));
    let first = in_use(&sets);
    let pair = Pair::start([&first[0], &first[1]], "", "").await;
    let mut load = Load::start(&pair.gateway, [GET, POST].into_iter().cycle().take(CLIENTS)).await;
    for _ in 0..ENDPOINTS {
        // Surge 1: the next one is there before one of the old leaves.
        for set in &mut sets {
            set.push(Upstream::saying("new").await);
        }
        let now = in_use(&sets);
        pair.publish([&now[0], &now[1]]).await;
        load.goes_on(10).await;
        let leaving = sets.each_mut().map(|set| set.remove(0)).map(|old| (pair.endpoint(old.address), old));
        let now = in_use(&sets);
        pair.publish([&now[0], &now[1]]).await;
        load.goes_on(20).await;
        for (endpoint, old) in leaving {
            // Who picked it just before it was marked has leased it by now, and may yet connect.
            let idle = || {
                endpoint.retired().is_some() && Lane::ALL.iter().all(|lane| endpoint.load(*lane) == (0, 0))
            };
            eventually("the connections of one that left closed", || idle() && old.open() == 0).await;
            // Nobody listens there from now on: whoever still went there would be refused.
            drop(old);
        }
        load.goes_on(10).await;
    }
    let used = || sets.iter().flatten().all(|upstream| upstream.count() > 0);
    within("a request and a copy at each of the new ones", async {
        while !used() {
            load.goes_on(10).await;
        }
    })
    .await;
    let answered = load.stop().await;
    let gateway = &pair.gateway;
    gateway.settled().await;
    gateway.outcome("delivered", answered as u64).await;
    // A connection that was being made to one that left is given up, and its request goes elsewhere.
    let connects = |result| gateway.sum("mirrorgate_upstream_connects_total", &[result]);
    assert_eq!(connects("result=\"failed\""), 0.0);
    assert!(connects("result=\"removed\"") <= (2 * CLIENTS) as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_killed_before_its_source_knows_costs_no_request_that_may_be_retried() {
    let mut sets = [Vec::new(), Vec::new()];
    for set in &mut sets {
        for _ in 0..4 {
            set.push(Upstream::saying("ok").await);
        }
    }
    let all = sets.each_ref().map(|set| addresses(set));
    let clients = 8;
    let retries = ", retries: { attempts: 2, on: [connect, reset] }";
    let pair = Pair::start([&all[0], &all[1]], retries, ", ejection: { failures: 2, time: 10m }").await;
    let mut load = Load::start(&pair.gateway, std::iter::repeat_n(GET, clients)).await;
    load.goes_on(100).await;
    // Both at once, with whatever they have in hand; the files go on naming them.
    let killed = sets.each_mut().map(|set| set.remove(0)).map(|upstream| upstream.address);
    for ((name, lane), killed) in LANES.into_iter().zip(Lane::ALL).zip(killed) {
        eventually("left out by its own lane", || {
            pair.state(name, killed) == Some(State::Ejected(Some(lane)))
        })
        .await;
    }
    let failed = || {
        pair.gateway.sum("mirrorgate_mirror_requests_total", &["outcome=\"failed"])
            + pair.gateway.sum("mirrorgate_upstream_connects_total", &["result=\"failed\""])
    };
    // Those that were on their way when it was left out have ended after as many answers.
    load.goes_on(2 * clients).await;
    let before = failed();
    load.goes_on(200).await;
    assert_eq!(failed(), before, "once left out it is not asked any more");
    let left = sets.each_ref().map(|set| addresses(set));
    pair.publish([&left[0], &left[1]]).await;
    load.goes_on(20).await;
    let answered = load.stop().await as f64;
    pair.gateway.settled().await;
    // Only a copy of which something was sent when its endpoint died is lost, and counted.
    let outcome = |outcome| pair.gateway.sum("mirrorgate_mirror_requests_total", &[outcome]);
    assert_eq!(outcome("outcome=\"delivered\"") + outcome("outcome=\"failed_reset\""), answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_followed_in_whatever_way_they_are_replaced_and_broken_ones_change_nothing() {
    let one = [Upstream::saying("ok").await, Upstream::saying("ok").await];
    let two = [Upstream::saying("ok").await, Upstream::saying("ok").await];
    let [first, second] = [&one, &two].map(|both| both.each_ref().map(|upstream| [upstream.address]));
    let pair = Pair::start([&first[0], &first[1]], "", "").await;
    let mut load = Load::start(&pair.gateway, [GET, POST].into_iter().cycle().take(4)).await;
    let at = |name: &str| pair.folder.path().join(name);
    let failures = || {
        LANES.map(|name| {
            let label = format!("backend=\"{name}\"");
            pair.gateway.sum("mirrorgate_backend_source_failures_total", &[&label])
        })
    };

    // By rename, there and back.
    pair.publish([&second[0], &second[1]]).await;
    load.goes_on(20).await;
    pair.publish([&first[0], &first[1]]).await;

    // Truncated, half-written, gone: the last good sets stay.
    for broken in [Some(""), Some("endpoints:\n  - '127.0.0.1"), Some("endpoints: [nonsense]\n"), None] {
        let before = failures();
        for name in LANES {
            match broken {
                Some(text) => std::fs::write(at(&format!("{name}.yaml")), text).unwrap(),
                None => std::fs::remove_file(at(&format!("{name}.yaml"))).unwrap(),
            }
        }
        eventually("both noticed", || failures().iter().zip(before).all(|(now, before)| *now > before)).await;
        load.goes_on(20).await;
        pair.used([&first[0], &first[1]]).await;
    }

    // As Kubernetes replaces the files of a ConfigMap: all at once, by the link of a folder.
    let version = |number: usize, sets: &[[SocketAddr; 1]; 2]| {
        let folder = at(&format!("..version-{number}"));
        std::fs::create_dir(&folder).unwrap();
        for (name, set) in LANES.into_iter().zip(sets) {
            std::fs::write(folder.join(format!("{name}.yaml")), list(set)).unwrap();
        }
        symlink(&folder, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    version(1, &second);
    for name in LANES {
        symlink(format!("..data/{name}.yaml"), at(&format!("{name}.yaml"))).unwrap();
    }
    pair.used([&second[0], &second[1]]).await;
    pair.gateway.counts("mirrorgate_backend_source_failing", &[], 0.0).await;
    load.goes_on(20).await;
    for number in 2..8 {
        let sets = if number % 2 == 0 { &first } else { &second };
        version(number, sets);
        pair.used([&sets[0], &sets[1]]).await;
        std::fs::remove_dir_all(at(&format!("..version-{}", number - 1))).unwrap();
        load.goes_on(20).await;
    }
    let answered = load.stop().await;
    pair.gateway.settled().await;
    pair.gateway.outcome("delivered", answered as u64).await;
}

/// Endpoints at the same port of addresses that differ, as names have them.
async fn at_one_port(hosts: &[Ipv4Addr]) -> (u16, Vec<Upstream>) {
    loop {
        let first = TcpListener::bind((hosts[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for host in &hosts[1..] {
            listeners.extend(TcpListener::bind((*host, port)).await);
        }
        if listeners.len() == hosts.len() {
            let upstreams = listeners.into_iter().map(|listener| Upstream::answering_at(listener, "ok"));
            return (port, upstreams.collect());
        }
    }
}

const HOSTS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 31),
    Ipv4Addr::new(127, 0, 0, 32),
    Ipv4Addr::new(127, 0, 0, 33),
    Ipv4Addr::new(127, 0, 0, 34),
];

/// A gateway whose primary and whose mirror are names.
async fn named(server: SocketAddr, port: u16, backend: &str) -> Gateway {
    let text = format!(
        "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 2\nresolver: {{ servers: ['{server}'] }}\n\
         routes: [{{ backend: primary, mirrors: [mirror] }}]\n\
         backends:\n  primary: {{ dns: 'primary.test.:{port}'{backend} }}\n  \
         mirror: {{ dns: 'mirror.test.:{port}'{backend} }}\n"
    );
    Gateway::start(&text, Path::new(""), None).await
}

/// Which of the hosts a name has in each of two states.
fn hosts(name: &str, state: usize) -> Vec<Ipv4Addr> {
    let lane = usize::from(name.starts_with("mirror"));
    vec![HOSTS[2 * lane + state % 2]]
}

fn at(port: u16, state: usize) -> [SocketAddr; 2] {
    LANES.map(|name| SocketAddr::from((hosts(name, state)[0], port)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_leaves_what_it_said_and_is_followed_when_it_is_back() {
    let (port, upstreams) = at_one_port(&HOSTS).await;
    let server = NameServer::start(|name, _| Say::Addresses(hosts(name, 0))).await.unwrap();
    let gateway = named(server.address, port, "").await;
    let [primary, mirror] = at(port, 0);
    gateway.uses("primary", &[primary]).await;
    gateway.uses("mirror", &[mirror]).await;
    let mut load = Load::start(&gateway, [GET, POST].into_iter().cycle().take(4)).await;
    load.goes_on(20).await;
    let address = server.stop().await;
    gateway.counts("mirrorgate_backend_source_failing", &[], 2.0).await;
    let age = |gateway: &Gateway| {
        let confirmed = gateway.running().registry().live()[0].freshness().confirmed;
        confirmed.unwrap().elapsed()
    };
    let before = age(&gateway);
    // Several attempts, with pauses that grow.
    let failures = gateway.sum("mirrorgate_backend_source_failures_total", &[]);
    eventually("it is asked again and again", || {
        gateway.sum("mirrorgate_backend_source_failures_total", &[]) >= failures + 2.0
    })
    .await;
    load.goes_on(50).await;
    assert!(age(&gateway) > before, "its age shows");
    gateway.uses("primary", &[primary]).await;
    gateway.uses("mirror", &[mirror]).await;

    // A server that answers with errors is no better.
    let server = NameServer::at(address, |_, _| Say::Code(ResponseCode::ServFail)).await.unwrap();
    eventually("it is asked", || server.asked() >= 4).await;
    load.goes_on(50).await;
    gateway.uses("primary", &[primary]).await;
    server.stop().await;

    let _server = NameServer::at(address, |name, _| Say::Addresses(hosts(name, 1))).await.unwrap();
    let [primary, mirror] = at(port, 1);
    gateway.uses("primary", &[primary]).await;
    gateway.uses("mirror", &[mirror]).await;
    gateway.counts("mirrorgate_backend_source_failing", &[], 0.0).await;
    load.goes_on(50).await;
    let answered = load.stop().await;
    gateway.settled().await;
    gateway.outcome("delivered", answered as u64).await;
    assert_eq!(upstreams.iter().map(Upstream::count).sum::<usize>(), 2 * answered);
}

/// What a newcomer tries first: one request, and its copy.
#[tokio::test(flavor = "multi_thread")]
async fn the_very_first_copy_waits_for_its_source_like_the_request() {
    let (primary, mirror) = (Upstream::saying("p").await, Upstream::saying("m").await);
    let server = NameServer::start(|_, _| {
        // A name server that takes its time, where the primary's list is there at once.
        std::thread::sleep(Duration::from_millis(50));
        Say::Addresses(vec![Ipv4Addr::LOCALHOST])
    })
    .await
    .unwrap();
    let text = format!(
        "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 1\nresolver: {{ servers: ['{}'] }}\n\
         routes: [{{ backend: 'http://{}', mirrors: ['http://mirror.test:{}'] }}]\n",
        server.address,
        primary.address,
        mirror.address.port()
    );
    let gateway = Gateway::start(&text, Path::new(""), None).await;
    assert_eq!(gateway.get("/").await.text(), "p");
    gateway.outcome("delivered", 1).await;
    gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_name_is_tried_in_the_search_domains_of_given_servers() {
    let (port, _upstreams) = at_one_port(&HOSTS).await;
    let server = NameServer::start(|name, _| match name {
        "app.second.test" => Say::Addresses(vec![HOSTS[0]]),
        _ => Say::Code(ResponseCode::NXDomain),
    })
    .await
    .unwrap();
    let text = format!(
        "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 1\n\
         resolver: {{ servers: ['{}'], search: [first.test, second.test] }}\n\
         routes: [{{ backend: app, mirrors: [app] }}]\nbackends: {{ app: {{ dns: 'app:{port}' }} }}\n",
        server.address
    );
    let gateway = Gateway::start(&text, Path::new(""), None).await;
    gateway.uses("app", &[SocketAddr::from((HOSTS[0], port))]).await;
    assert_eq!(gateway.get("/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_too_old_is_treated_as_empty_where_that_is_wanted() {
    let (port, _upstreams) = at_one_port(&HOSTS).await;
    let server = NameServer::start(|name, _| Say::Addresses(hosts(name, 0))).await.unwrap();
    let gateway = named(server.address, port, ", max_age: { after: 4s, then: empty }").await;
    gateway.uses("primary", &at(port, 0)[..1]).await;
    assert_eq!(gateway.get("/").await.status(), 200);
    let address = server.stop().await;
    gateway.uses("primary", &[]).await;
    gateway.uses("mirror", &[]).await;
    assert_eq!(gateway.get("/").await.status(), 503);
    for backend in gateway.running().registry().live() {
        let freshness = backend.freshness();
        assert!(freshness.last_error.unwrap().contains("not confirmed for 4s"));
        assert!(freshness.confirmed.unwrap().elapsed().as_secs() >= 4, "emptying it is no confirmation");
    }
    let _server = NameServer::at(address, |name, _| Say::Addresses(hosts(name, 0))).await.unwrap();
    gateway.uses("primary", &at(port, 0)[..1]).await;
    assert_eq!(gateway.get("/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_flap_fail_no_request() {
    let (port, upstreams) = at_one_port(&HOSTS).await;
    // For each name: one address and the other by turns, now and then no such name or a failure, of
    // which none comes twice in a row.
    let turns: [AtomicUsize; 2] = Default::default();
    let server = NameServer::start(move |name, _| {
        let turn = turns[usize::from(name.starts_with("mirror"))].fetch_add(1, Ordering::SeqCst);
        match turn % 6 {
            2 => Say::Code(ResponseCode::NXDomain),
            4 => Say::Code(ResponseCode::ServFail),
            5 => {
                Say::Addresses(HOSTS.chunks(2).nth(usize::from(name.starts_with("mirror"))).unwrap().to_vec())
            }
            turn => Say::Addresses(hosts(name, turn)),
        }
    })
    .await
    .unwrap();
    let gateway = named(server.address, port, "").await;
    eventually("the first answers", || {
        gateway.running().registry().live().iter().all(|backend| !backend.endpoints().is_empty())
    })
    .await;
    let mut load = Load::start(&gateway, [GET, POST].into_iter().cycle().take(4)).await;
    // A round and one more for each name.
    while server.asked() < 14 {
        load.goes_on(5).await;
    }
    let answered = load.stop().await;
    gateway.settled().await;
    gateway.outcome("delivered", answered as u64).await;
    assert!(upstreams.iter().all(|upstream| upstream.count() > 0), "each had its turn");
    assert_eq!(gateway.sum("mirrorgate_upstream_connects_total", &["result=\"failed\""]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_of_a_removed_endpoint_gets_no_new_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let (old, next) = (H2Upstream::saying("old", &[]).await, H2Upstream::saying("next", &[]).await);
    replace(&file, &list(&[old.address]));
    let text = "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 1\nroutes: [{ backend: app, mirrors: [app] }]\n\
                backends: { app: { file: app.yaml, protocol: h2c } }\n";
    let gateway = Gateway::start(text, folder.path(), None).await;
    assert_eq!(gateway.get("/").await.text(), "old");
    // A stream that is under way when its endpoint goes.
    let mut client = gateway.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc").await;
    let in_flight = || {
        let live = gateway.running().registry().live();
        let set = live[0].endpoints();
        set.entries().iter().map(|entry| entry.endpoint.load(Lane::Primary).0).sum::<usize>()
    };
    eventually("it is under way", || in_flight() == 1).await;
    let (before, connections) = (old.received(2).await.len(), old.connections());
    replace(&file, &list(&[next.address]));
    gateway.uses("app", &[next.address]).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.text(), "next");
    }
    client.send("def").await;
    assert_eq!(client.response().await.text(), "old", "what is under way ends by itself");
    gateway.settled().await;
    let after = old.received(before + 2).await;
    assert_eq!(after.len(), before + 2, "the POST and its copy, and nothing else");
    assert_eq!(old.connections(), connections);
}

/// Takes requests and never answers.
async fn silent() -> Upstream {
    Upstream::script(|mut served| async move { while served.request().await.is_some() {} }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_with_a_removed_endpoint_ends_at_its_deadline() {
    let (old, copies) = (silent().await, silent().await);
    let next = [Upstream::saying("next").await, Upstream::saying("next").await];
    let pair = Pair::start([&[old.address], &[copies.address]], "", ", drain: 1ms").await;
    let mut client = pair.gateway.connect().await;
    client.send(GET).await;
    old.received(1).await;
    copies.received(1).await;
    pair.publish([&[next[0].address], &[next[1].address]]).await;
    // Nobody has answered a byte, and nobody ever will.
    let response: Message = client.response().await;
    assert_eq!(response.status(), 502);
    pair.gateway.outcome("failed_reset", 1).await;
    eventually("its connections closed", || old.open() + copies.open() == 0).await;
    assert_eq!(pair.gateway.get("/").await.text(), "next");
    pair.gateway.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_flight_with_a_removed_endpoint_ends_at_its_deadline() {
    // HTTP/2's greeting is answered with settings, and then nothing comes.
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let silent = Upstream::script(move |mut served| {
        let count = count.clone();
        async move {
            served.wire.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            while served.wire.more().await {
                count.store(served.wire.unread().len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    let next = H2Upstream::saying("next", &[]).await;
    let pair = Pair::start([&[silent.address], &[next.address]], "", ", protocol: h2c, drain: 1ms").await;
    let mut client = pair.gateway.connect().await;
    client.send(GET).await;
    // The connection's preface and settings are some 80 bytes; the request's head comes after them.
    eventually("the request is on its way", || asked.load(Ordering::SeqCst) > 120).await;
    pair.publish([&[next.address], &[next.address]]).await;
    assert_eq!(within("an answer", client.response()).await.status(), 502);
    eventually("its connection closed", || silent.open() == 0).await;
    assert_eq!(pair.gateway.get("/").await.text(), "next");
}
