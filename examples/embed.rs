//! The gateway inside a program: a `tower::Service` behind a layer of the program's own, fed with
//! requests that the program made or took itself.
//!
//! `cargo run --example embed`

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mirrorgate::app::{self, Origin};
use mirrorgate::config;
use mirrorgate::mirror::outcome::Outcome;
use tokio::net::TcpListener;
use tower_service::Service;

/// A layer as tower has it: whatever comes through says which team it is from.
#[derive(Clone)]
struct Team<S> {
    inner: S,
    name: &'static str,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Team<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.headers_mut().insert("x-team", http::HeaderValue::from_static(self.name));
        self.inner.call(request)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let (service, next) = (backend("service").await?, backend("next version").await?);
    let text = format!(
        "listeners: [127.0.0.1:0]\nadmin: off\nroutes:\n  - name: all\n    \
         backend: http://{service}\n    mirrors: [http://{next}]\n"
    );
    let configuration = config::parse(&text, "".as_ref())?;
    // Reloads with `Origin::File`. This runtime is the control side; requests to the listener are
    // served by threads of their own, those to the service below by whoever calls.
    let gateway = app::start(Origin::Flags(Box::new(configuration))).await?;

    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 54321));
    let inner = gateway.service(client).ok_or("the listener is closed")?;
    let mut team = Team { inner, name: "blue" };
    for number in 0..3 {
        let request = Request::post(format!("/items/{number}"))
            .header("host", "shop.example.com")
            .body(Full::new(Bytes::from("to both")))?;
        let response = team.call(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!("{status}: {}", String::from_utf8_lossy(&body).trim_end());
    }

    // Copies are never waited for, so there may be some under way; this ends when none is.
    let copies = gateway.metrics().mirror(&"all".into(), &format!("http://{next}").into());
    while copies.in_flight.load(std::sync::atomic::Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("copies delivered: {}", copies.outcome_total(Outcome::Delivered));
    gateway.stop(Duration::ZERO).await;
    Ok(())
}

/// A service that says what it got.
async fn backend(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request| answer(name, request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}

async fn answer(name: &str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let team = head.headers.get("x-team").and_then(|team| team.to_str().ok()).unwrap_or("nobody").to_owned();
    let copy = if head.headers.contains_key("x-mirrorgate-copy") { " (a copy)" } else { "" };
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let line = format!("{name} got {} {} from {team}, {length} bytes{copy}\n", head.method, head.uri);
    if !copy.is_empty() {
        print!("{line}");
    }
    Ok(Response::new(Full::new(Bytes::from(line))))
}
