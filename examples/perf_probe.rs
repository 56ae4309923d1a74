use std::sync::Arc;
use mirrorgate::{plan::*, routing::table::Builder, upstream::registry::Registry, telemetry::metrics::Metrics, telemetry::access_log::AccessLog, proxy::{Gateway, accept}};
use mirrorgate::discovery::source::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let workers: usize = args[1].parse().unwrap();
    let listen = args[2].parse().unwrap();
    let spec = |n: &str, a: &str| BackendSpec { name: n.into(), source: SourceSpec::Static(vec![EndpointSpec::new(a.parse().unwrap())]), protocol: Protocol::Http1, host: None };
    let metrics = Arc::new(Metrics::new(workers));
    let registry = Arc::new(Registry::new(workers, metrics.clone()));
    let builder = Builder::new(registry.clone(), metrics.clone());
    let mut backends = vec![spec("a", &args[3])];
    let mut mirrors = vec![];
    for (i, m) in args[4..].iter().enumerate() {
        let n = format!("m{i}");
        backends.push(spec(&n, m));
        mirrors.push(MirrorPlan { backend: n.as_str().into(), fraction: Fraction::ALL, methods: None, headers: Default::default(), timeout: mirrorgate::limits::MIRROR_TIMEOUT, in_flight: 1024, lag: 1<<20 });
    }
    let plan = Plan { listeners: vec![], admin: None, access_log: AccessLogPlan::Off, backends, routes: vec![RoutePlan { name: "r".into(), listeners: None, hosts: vec![], matches: vec![], action: RouteAction::Forward(vec![WeightedBackend{backend: "a".into(), weight: 1}]), filters: Default::default(), timeouts: Default::default(), mirrors }], trusted_hops: 0, via: None, workers: None };
    let table = builder.build(&plan);
    for b in registry.live() { if let SourceSpec::Static(l) = b.source() { b.publish(&l, std::time::Instant::now()); } }
    let (gateway, threads) = Gateway::start(workers, table, metrics.clone(), AccessLog::off()).unwrap();
    let id = builder.listener(&"l".into());
    gateway.listen(accept::bind(listen).unwrap(), Arc::new(accept::Listener { id, name: "l".into(), address: listen, half_close: false, strict_framing: true, closed: tokio::sync::watch::Sender::new(false) }));
    threads.join();
}
