//! The client of the API server. An answer that is none of the API server's, such as what a load balancer
//! says while nobody is behind it, is an error: kube itself looks at no status of a watch's, so that it would
//! take an empty 503 for a watch that ended, and begin the next at once, for ever. Called by `cluster`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Config};
use tower_service::Service;

/// A client as `config` says.
pub(super) fn client(mut config: Config) -> Result<Client, kube::Error> {
    // What fails is told and tried again by whoever asked. The client would go on for minutes by itself, ever
    // more rarely, and say nothing meanwhile.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    Ok(Client::new(Answers(Client::try_from(config)?), namespace))
}

/// Lets only answers of the API server pass.
struct Answers(Client);

impl Service<Request<Body>> for Answers {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Whoever is asked has a queue.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let answer = client.send(request).await?;
            match speaks_for_itself(&answer) {
                true => Ok(answer),
                false => Err(unreached(answer.status()).into()),
            }
        })
    }
}

/// The API server says why in JSON when it does not do what it was asked for.
fn speaks_for_itself(answer: &Response<Body>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    answer.status().is_success() || kind.is_some_and(|kind| kind.starts_with("application/json"))
}

fn unreached(status: StatusCode) -> kube::Error {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!("{reason}, without a word of the API server's");
    kube::Error::Api(Status::failure(&text, reason).with_code(status.as_u16()).boxed())
}
