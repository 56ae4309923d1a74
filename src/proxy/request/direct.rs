//! Answers of the gateway's own that are no refusals: no backend is asked for them.

use bytes::Bytes;
use http::header::HOST;
use http::{Response, request};

use super::{Answer, target_of};
use crate::discovery::source::EndpointAddress;
use crate::proxy::connection::Context;
use crate::proxy::record::Finish;
use crate::proxy::reply::{Content, DIRECT, Refusal};
use crate::routing::filter::Redirect;

/// Where the route sends clients.
pub(super) fn redirected(
    context: &Context,
    redirect: &Redirect,
    parts: &request::Parts,
    prefix: usize,
    finish: &mut Finish,
) -> Result<Answer, Refusal> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let location = redirect
        .location(context.client().scheme(), host, port(context), &target_of(parts), prefix)
        .map_err(|_| Refusal::Rewrite)?;
    finish.replied(redirect.status, DIRECT);
    let mut response = Response::new(());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(http::header::LOCATION, location);
    Ok((response.into_parts().0, Content::Own(Bytes::new()), None))
}

/// Where the client connected to; by a Unix socket it is the usual port of its scheme.
fn port(context: &Context) -> u16 {
    match (&context.listener().address, context.client().scheme()) {
        (EndpointAddress::Tcp(address), _) => address.port(),
        (EndpointAddress::Unix(_), "https") => 443,
        (EndpointAddress::Unix(_), _) => 80,
    }
}

/// What CORS says to a preflight.
pub(super) fn answered(response: Response<()>, finish: &mut Finish) -> Answer {
    finish.replied(response.status(), DIRECT);
    (response.into_parts().0, Content::Own(Bytes::new()), None)
}
