//! The client of the API server. An answer that is none of the API server's, such as what a load balancer
//! says while nobody is behind it, is an error: kube itself looks at no status of a watch's, so that it would
//! take an empty 503 for a watch that ended, and begin the next at once, for ever. A connection whose other end
//! went without a word is an error, too, soon: a watch with nothing to tell looks like one whose API server is
//! gone, and only the kernel's probes tell them apart. Called by `cluster`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::core::Status;
use kube::{Client, Config};
use tower_service::Service;

use crate::limits;

/// A client as `config` says. It is made here as kube makes its own, but for the sockets, and for retries: what
/// fails is told and tried again by whoever asked, where kube would go on for minutes by itself, ever more
/// rarely, and say nothing meanwhile.
pub(super) fn client(config: Config) -> Result<Client, kube::Error> {
    if let Some(proxy_url) = config.proxy_url {
        return Err(kube::Error::ProxyProtocolUnsupported { proxy_url });
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(sockets())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let answers = Answers(legacy::Client::builder(TokioExecutor::new()).build(connector));
    let named = ClientBuilder::new(answers, &config.default_namespace);
    let named = named.with_layer(&config.extra_headers_layer()?);
    Ok(match config.auth_layer()? {
        Some(auth) => named.with_layer(&auth).with_layer(&config.base_uri_layer()).build(),
        None => named.with_layer(&config.base_uri_layer()).build(),
    })
}

/// Connections whose silence is noticed: where nothing is said the kernel asks whether the other end is there,
/// and what was sent has to be acknowledged in the same time.
fn sockets() -> HttpConnector {
    let (idle, interval, probes) = limits::API_PROBES;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_keepalive(Some(idle));
    connector.set_keepalive_interval(Some(interval));
    connector.set_keepalive_retries(Some(probes));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    connector.set_tcp_user_timeout(Some(idle + interval * probes));
    connector
}

/// Lets only answers of the API server pass.
#[derive(Clone)]
struct Answers<C>(legacy::Client<C, Body>);

impl<C: Connect + Clone + Send + Sync + 'static> Service<Request<Body>> for Answers<C> {
    type Response = Response<Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Whoever is asked has a queue.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.request(request);
        Box::pin(async move {
            let answer = answer.await?;
            match speaks_for_itself(&answer) {
                true => Ok(answer),
                false => Err(unreached(answer.status()).into()),
            }
        })
    }
}

/// The API server says why in JSON when it does not do what it was asked for.
fn speaks_for_itself<B>(answer: &Response<B>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    answer.status().is_success() || kind.is_some_and(|kind| kind.starts_with("application/json"))
}

fn unreached(status: StatusCode) -> kube::Error {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!("{reason}, without a word of the API server's");
    kube::Error::Api(Status::failure(&text, reason).with_code(status.as_u16()).boxed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_asks_whether_the_other_end_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stream = sockets().call(url).await.unwrap();
        let socket = socket2::SockRef::from(stream.inner());
        let (idle, interval, probes) = limits::API_PROBES;
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), idle);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), probes);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(idle + interval * probes));
    }
}
