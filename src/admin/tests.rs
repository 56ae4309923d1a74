//! The API as a client meets it: raw HTTP over a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::discovery::source::{EndpointSpec, SourceSpec};
use crate::plan::{BackendPolicy, BackendSpec, Protocol};
use crate::upstream::registry::BackendRef;

/// What is wrong and stops nothing.
const WARNING: &str = "TLSRoutes cannot be watched: 403";

struct Served {
    address: SocketAddr,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    drain: watch::Receiver<bool>,
    levels: Arc<Mutex<Vec<String>>>,
    /// Whoever looks at the lanes in use takes it, and counts that.
    looks: Arc<tokio::sync::Mutex<usize>>,
    _server: JoinSet<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    async fn start(address: &str, token_file: Option<PathBuf>) -> Self {
        let metrics = Arc::new(Metrics::new(2));
        let registry = Arc::new(Registry::new(2, metrics.clone()));
        let (drain, drained) = watch::channel(false);
        let levels = Arc::new(Mutex::new(Vec::new()));
        let (readiness, set_levels) = (Readiness::new(), levels.clone());
        let looks = Arc::new(tokio::sync::Mutex::new(0));
        let counted = looks.clone();
        let state = AdminState {
            metrics: metrics.clone(),
            registry: registry.clone(),
            lanes: Arc::new(move || {
                // Panics on a thread of the runtime, where endpoint updates would wait for it.
                *counted.blocking_lock() += 1;
                HashMap::from([
                    (Arc::from("app"), Lane::ALL.to_vec()),
                    (Arc::from("next"), vec![Lane::Mirror]),
                    (Arc::from("other"), vec![Lane::Mirror]),
                ])
            }),
            readiness: readiness.clone(),
            mirrors: mirrors_of(&metrics),
            routes: Arc::new(|| json!([{ "name": "api" }])),
            warnings: Arc::new(|| vec![WARNING.to_owned()]),
            configuration: Arc::new(|| json!({ "configuration": {}, "last_reload_error": "line 3" })),
            drain,
            set_log_level: Arc::new(move |level| {
                if level == "loud" {
                    return Err("no such level".to_owned());
                }
                set_levels.lock().unwrap().push(level.to_owned());
                Ok(())
            }),
        };
        let admin = Admin::bind(&AdminPlan { address: address.parse().unwrap(), token_file }).await.unwrap();
        let address = admin.address();
        let mut server = JoinSet::new();
        server.spawn(admin.serve(Arc::new(state)));
        Self { address, registry, metrics, readiness, drain: drained, levels, looks, _server: server }
    }

    fn backend(&self, name: &str, source: SourceSpec) -> BackendRef {
        let spec = BackendSpec {
            name: Arc::from(name),
            source,
            protocol: Protocol::Http1,
            host: None,
            transport: Default::default(),
            policy: BackendPolicy::default(),
        };
        self.registry.reference(&spec)
    }

    async fn open(&self, request: &str) -> TcpStream {
        let port = self.address.port();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends one request with these further headers.
    async fn ask(&self, line: &str, headers: &str) -> Answer {
        let host = if headers.contains("host:") {
            String::new()
        } else {
            format!("host: 127.0.0.1:{}\r\n", self.address.port())
        };
        let request = format!("{line} HTTP/1.1\r\n{host}connection: close\r\n{headers}\r\n");
        let mut text = String::new();
        self.open(&request).await.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn ask_owned(&self, line: String, headers: &str) -> Answer {
        self.ask(&line, headers).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "").await
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Two mirrors of the route `api`, to `next` and to `http://b`.
fn mirrors_of(metrics: &Arc<Metrics>) -> MirrorsInUse {
    let spec = |name: &str| BackendSpec {
        name: Arc::from(name),
        source: SourceSpec::Static(Vec::new()),
        protocol: Protocol::Http1,
        host: None,
        policy: Default::default(),
        transport: Default::default(),
    };
    // Of its own, so that the other tests see no backends but theirs.
    let registry = Arc::new(Registry::new(2, metrics.clone()));
    let names = ["next", "http://b"];
    let mut plan = crate::mirror::tests::plan_of(spec("app"));
    plan.routes[0].name = Arc::from("api");
    for name in names {
        plan.backends.push(spec(name));
        plan.routes[0].mirrors.push(crate::plan::MirrorPlan::new(name.into()));
    }
    let builder = crate::routing::table::Builder::new(registry, metrics.clone());
    let table = builder.build(&plan);
    Arc::new(move || table.routes().iter().flat_map(|route| route.mirrors.clone()).collect())
}

fn dns() -> SourceSpec {
    SourceSpec::Dns { host: "app.internal".to_owned(), port: 80 }
}

fn endpoints(addresses: &[&str]) -> Vec<EndpointSpec> {
    addresses.iter().map(|address| EndpointSpec::new(address.parse().unwrap())).collect()
}

#[tokio::test]
async fn pages() {
    let served = Served::start("127.0.0.1:0", None).await;
    let index = served.get("/").await;
    assert_eq!(index.status, 200);
    for path in
        ["/live", "/ready", "/metrics", "/backends", "/mirrors", "/routes", "/config", "/drain", "/log"]
    {
        assert!(index.body.contains(path), "{path}");
    }
    assert_eq!(served.get("/live").await.status, 200);
    assert_eq!(served.get("/routes").await.json(), json!([{ "name": "api" }]));
    assert_eq!(served.get("/config").await.json()["last_reload_error"], "line 3");
    assert_eq!(served.get("/nothing").await.status, 404);
    assert_eq!(served.get("/live/").await.status, 404);
    let head = served.ask("HEAD /live", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("x-content-type-options: nosniff"));
}

#[tokio::test]
async fn ready_names_what_is_pending() {
    let served = Served::start("127.0.0.1:0", None).await;
    let step = served.readiness.wait_for("listener a");
    let backend = served.backend("app", dns());
    served.readiness.wait_for_backend(backend.name(), backend.answered());
    let answer = served.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "ready": false, "pending": ["listener a", "backend app"], "warnings": [WARNING] })
    );
    drop(step);
    backend.fail("no such name".to_owned());
    let answer = served.get("/ready").await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "ready": true, "pending": [], "warnings": [WARNING] }))
    );
    served.readiness.drain();
    let answer = served.get("/ready").await;
    assert_eq!(
        (answer.status, answer.json()),
        (503, json!({ "ready": false, "pending": ["draining"], "warnings": [WARNING] }))
    );
    assert_eq!(served.get("/live").await.status, 200);
}

#[tokio::test]
async fn backends_are_told_with_their_freshness() {
    let served = Served::start("127.0.0.1:0", None).await;
    let app = served.backend("app", dns());
    let next = served.backend("next", SourceSpec::Static(endpoints(&["127.0.0.1:9003"])));
    app.publish(&endpoints(&["127.0.0.1:9001", "[::1]:9002"]), Instant::now());
    app.fail("timed out".to_owned());
    let mut list = served.get("/backends").await.json();
    let age = list[0]["age_seconds"].take();
    assert!(age.as_f64().unwrap() >= 0.0);
    let endpoint = |address: &str| json!({ "address": address, "state": "healthy", "ejected": [], "in_flight": 0, "connections": 0 });
    assert_eq!(
        list,
        json!([
            {
                "name": "app", "source": "dns", "generation": 1, "age_seconds": null,
                "lanes": ["primary", "mirror"], "last_error": "timed out",
                "endpoints": [endpoint("127.0.0.1:9001"), endpoint("[::1]:9002")],
            },
            {
                "name": "next", "source": "static", "generation": 0, "age_seconds": null,
                "lanes": ["mirror"], "last_error": null, "endpoints": [],
            },
        ])
    );
    next.publish(&endpoints(&["127.0.0.1:9003"]), Instant::now());
    assert_eq!(served.get("/backends").await.json()[1]["age_seconds"], json!(0.0));
}

#[tokio::test]
async fn a_watcher_is_told_of_changes_and_keeps_nothing_alive() {
    let served = Served::start("127.0.0.1:0", None).await;
    let app = served.backend("app", dns());
    let mut lines =
        BufReader::new(served.open("GET /backends?watch=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").await)
            .lines();
    let mut next = async || loop {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        // Between the lines of JSON are those of the head and of the chunked coding.
        if line.starts_with('{') {
            break serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    let told = next().await;
    assert_eq!((&told["name"], &told["generation"]), (&json!("app"), &json!(0)));
    app.publish(&endpoints(&["127.0.0.1:9001"]), Instant::now());
    let told = next().await;
    assert_eq!(
        (&told["generation"], &told["endpoints"][0]["address"]),
        (&json!(1), &json!("127.0.0.1:9001"))
    );
    app.fail("timed out".to_owned());
    assert_eq!(next().await["last_error"], "timed out");
    let other = served.backend("other", dns());
    assert_eq!(next().await["name"], "other");
    drop((app, other));
    assert_eq!(next().await, json!({ "name": "app", "gone": true }));
    assert_eq!(next().await, json!({ "name": "other", "gone": true }));
}

#[tokio::test]
async fn looking_on_walks_the_table_once_and_holds_up_nobody() {
    let served = Served::start("127.0.0.1:0", None).await;
    let backends = ["app", "next", "other"].map(|name| served.backend(name, dns()));
    assert_eq!(served.get("/backends").await.json().as_array().unwrap().len(), backends.len());
    let looks = served.looks.lock().await;
    assert_eq!(*looks, 1);
    let watching = served.open("GET /backends?watch=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut lines = BufReader::new(watching).lines();
    // It looks now, or would if it could; whatever else is asked is answered meanwhile.
    assert_eq!(served.get("/live").await.status, 200);
    drop(looks);
    while !lines.next_line().await.unwrap().expect("the stream goes on").starts_with('{') {}
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for() {
    let served = Served::start("127.0.0.1:0", None).await;
    let route = served.metrics.route(&Arc::from("api"));
    route.responded(crate::shard::WorkerId(1), http::StatusCode::OK, Duration::from_millis(1));
    let app = served.backend("app", dns());
    app.publish(&endpoints(&["127.0.0.1:9001"]), Instant::now());
    let answer = served.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"));
    for line in [
        "# TYPE mirrorgate_requests_total counter",
        r#"mirrorgate_requests_total{route="api",code="200"} 1"#,
        r#"mirrorgate_backend_endpoints{backend="app"} 1"#,
        r#"mirrorgate_backend_set_age_seconds{backend="app"} "#,
    ] {
        assert!(answer.body.contains(line), "no {line} in\n{}", answer.body);
    }
    assert!(!answer.body.contains("# EOF"));
    let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n";
    let answer = served.ask("GET /metrics", accept).await;
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(answer.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_method_that_does_not_fit_is_refused() {
    let served = Served::start("127.0.0.1:0", None).await;
    for (line, allowed) in [
        ("GET /drain", "post"),
        ("HEAD /log?level=debug", "post"),
        ("POST /metrics", "get, head"),
        ("POST /", "get, head"),
        ("DELETE /backends", "get, head, post"),
    ] {
        let answer = served.ask(line, "").await;
        assert_eq!(answer.status, 405, "{line}");
        assert!(answer.head.contains(&format!("\r\nallow: {allowed}\r\n")), "{line}: {}", answer.head);
    }
    assert!(!*served.drain.borrow());
    assert!(served.levels.lock().unwrap().is_empty());
}

#[tokio::test]
async fn mirrors_are_shown_and_dialled() {
    let served = Served::start("127.0.0.1:0", None).await;
    let mirrors = served.get("/mirrors").await.json();
    let first = &mirrors[0];
    assert_eq!((&first["route"], &first["backend"]), (&json!("api"), &json!("next")));
    assert_eq!((&first["percent"], &first["state"]), (&json!(100.0), &json!("active")));
    assert_eq!((&first["in_flight"], &first["buffered_bytes"]), (&json!(0), &json!(0)));
    assert_eq!(first["breaker"], "closed");
    assert!(first["outcomes"].is_object() && first["latency_seconds"]["copy"].is_null());

    let post = |query: &str| served.ask_owned(format!("POST /mirrors?{query}"), "content-length: 0\r\n");
    let answer = post("route=api&backend=next&percent=2.5").await;
    assert_eq!((answer.status, &answer.json()[0]["percent"]), (200, &json!(2.5)));
    assert_eq!(post("route=api&backend=next&pause").await.json()[0]["state"], "paused");
    let mirrors = served.get("/mirrors").await.json();
    assert_eq!((&mirrors[0]["state"], &mirrors[0]["percent"]), (&json!("paused"), &json!(2.5)));
    assert_eq!(mirrors[1]["state"], "active", "the other is left alone");
    assert_eq!(post("route=api&backend=next&resume").await.json()[0]["state"], "active");
    let metrics = served.get("/metrics").await.body;
    assert!(metrics.contains("mirrorgate_mirror_percent{route=\"api\",mirror=\"next\"} 2.5"), "{metrics}");

    let form = "route=api&backend=http://b&percent=7";
    let headers = format!("connection: close\r\ncontent-length: {}\r\n\r\n{form}", form.len());
    let request = format!("POST /mirrors HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n{headers}", served.address.port());
    let mut text = String::new();
    served.open(&request).await.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("\"percent\": 7.0"), "{text}");

    for (query, status) in [
        ("route=api&backend=none&pause", 404),
        ("route=api&pause", 400),
        ("route=api&backend=next", 400),
        ("route=api&backend=next&percent=101", 400),
    ] {
        assert_eq!(post(query).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn the_log_level_is_set() {
    let served = Served::start("127.0.0.1:0", None).await;
    assert_eq!(served.ask("POST /log?level=warn%2Ca%3Dtrace", "content-length: 0\r\n").await.status, 200);
    assert_eq!(*served.levels.lock().unwrap(), ["warn,a=trace"]);
    let answer = served.ask("POST /log?level=loud", "content-length: 0\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (400, "no such level\n"));
    assert_eq!(served.ask("POST /log", "content-length: 0\r\n").await.status, 400);
}

#[tokio::test]
async fn drain_is_passed_on_and_ends_readiness() {
    let mut served = Served::start("127.0.0.1:0", None).await;
    assert_eq!(served.get("/ready").await.status, 200);
    assert_eq!(served.ask("POST /drain", "content-length: 0\r\n").await.status, 202);
    served.drain.changed().await.unwrap();
    assert!(*served.drain.borrow());
    assert_eq!(served.get("/ready").await.status, 503);
}

#[tokio::test]
async fn a_page_under_a_rebound_name_changes_nothing() {
    let served = Served::start("127.0.0.1:0", None).await;
    let port = served.address.port();
    for headers in [
        format!("host: evil.example:{port}\r\n"),
        format!("host: 127.0.0.1:{port}\r\norigin: http://evil.example:{port}\r\n"),
        format!("host: 127.0.0.1:{port}\r\norigin: null\r\n"),
    ] {
        assert_eq!(served.ask("POST /drain", &headers).await.status, 403, "{headers}");
    }
    assert!(!*served.drain.borrow());
    let own = format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n");
    assert_eq!(served.ask("POST /drain", &own).await.status, 202);
}

#[tokio::test]
async fn beyond_loopback_a_change_needs_the_token() {
    let served = Served::start("0.0.0.0:0", None).await;
    assert_eq!(served.get("/live").await.status, 200);
    assert_eq!(served.ask("POST /drain", "authorization: Bearer x\r\n").await.status, 403);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let served = Served::start("0.0.0.0:0", Some(file.path().to_owned())).await;
    let answer = served.ask("POST /drain", "authorization: Bearer wrong\r\n").await;
    assert_eq!(answer.status, 401);
    assert!(answer.head.contains("www-authenticate: bearer"));
    assert!(!*served.drain.borrow());
    assert_eq!(served.ask("POST /drain", "authorization: Bearer s3cret\r\n").await.status, 202);
    assert!(*served.drain.borrow());
}

#[tokio::test]
async fn what_cannot_be_served_is_said_at_start() {
    let plan = |address: SocketAddr, token: Option<&str>| AdminPlan {
        address,
        token_file: token.map(PathBuf::from),
    };
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr();
    let holder = TcpListener::bind(taken.unwrap()).await.unwrap();
    let error = Admin::bind(&plan(holder.local_addr().unwrap(), None)).await.err().unwrap();
    assert!(matches!(error, AdminError::Bind { .. }), "{error}");
    let error = Admin::bind(&plan("127.0.0.1:0".parse().unwrap(), Some("/nonexistent"))).await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

#[tokio::test]
async fn as_many_connections_as_allowed_are_answered_at_once_and_the_next_waits() {
    let served = Served::start("127.0.0.1:0", None).await;
    let idle = "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..limits::ADMIN_CONNECTIONS {
        let mut stream = served.open(idle).await;
        // Answered, and kept open.
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        open.push(stream);
    }
    let waiting = served.ask("GET /live", "");
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        answer = &mut waiting => panic!("answered {} although full", answer.status),
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    open.pop();
    assert_eq!(waiting.await.status, 200);
}
