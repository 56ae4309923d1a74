//! A whole request over loopback: client → gateway → upstream and back, without and with a mirror, and
//! the same without a gateway for comparison. Client and upstream take part in the time and in the
//! processors, so the figures compare with each other and with nothing else.
//!
//! `cargo bench --bench end_to_end` (`--profile fast` builds sooner).
#![allow(clippy::expect_used)]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mirrorgate::app::{self, Handle, Origin};
use mirrorgate::config;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

fn end_to_end(criterion: &mut Criterion) {
    let world = Runtime::new().expect("a runtime");
    let upstream = world.block_on(upstream());
    let gateways = [("gateway", &[][..]), ("gateway with a mirror", &[upstream])]
        .map(|(name, mirrors)| (name, world.block_on(gateway(upstream, mirrors))));
    let mut targets = vec![("no gateway", upstream)];
    targets.extend(gateways.iter().map(|(name, gateway)| (*name, gateway.address().expect("listens"))));

    for (kind, size) in [("GET", 0), ("POST 16 KiB", 16 * 1024)] {
        let mut group = criterion.benchmark_group(kind);
        group.throughput(Throughput::Elements(1));
        for (name, address) in &targets {
            let mut connection = world.block_on(connect(*address));
            let body = Bytes::from(vec![7; size]);
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| world.block_on(ask(&mut connection, *address, body.clone())));
            });
        }
        group.finish();
    }
    for (_, gateway) in gateways {
        world.block_on(gateway.stop(std::time::Duration::ZERO));
    }
}

async fn gateway(primary: SocketAddr, mirrors: &[SocketAddr]) -> Handle {
    let url = |address: &SocketAddr| format!("http://{address}");
    let mirrors: Vec<String> = mirrors.iter().map(url).collect();
    let listen = ["127.0.0.1:0".to_owned()];
    let configuration = config::from_flags(&listen, &[url(&primary)], &mirrors, None, Some("off"));
    let origin = Origin::Flags(Box::new(configuration.expect("valid")));
    app::start(origin).await.expect("starts")
}

/// Reads what it is sent and answers with 1 KiB.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a TCP socket");
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection);
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    static BODY: [u8; 1024] = [b'x'; 1024];
    // A copy may be cut; nobody minds here.
    let _body = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from_static(&BODY))))
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("a TCP socket");
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshakes");
    tokio::spawn(connection);
    sender
}

async fn ask(connection: &mut SendRequest<Full<Bytes>>, address: SocketAddr, body: Bytes) {
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    let host = HeaderValue::from_str(&address.to_string()).expect("ASCII");
    request.headers_mut().insert(http::header::HOST, host);
    connection.ready().await.expect("is open");
    let response = connection.send_request(request).await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
    response.into_body().collect().await.expect("a body");
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
