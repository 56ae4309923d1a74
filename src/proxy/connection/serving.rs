//! hyper on a client's stream, with every limit set, until the client or a drain ends it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::{http1 as hyper1, http2 as hyper2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::Context;
use crate::limits;
use crate::plan::ClientLimits;
use crate::proxy::accept::Listener;
use crate::proxy::framing::Framed;
use crate::proxy::framing::refusal::Refusal as Framing;
use crate::proxy::gather::Gathered;
use crate::proxy::request::handle;
use crate::streams::{Piece, StreamTasks};
use crate::telemetry::gateway::Refusal;
use crate::upstream::stream::Stream;

/// hyper and its buffers are there while there is something to serve: a connection that rests has
/// nothing but its stream: 5 KiB instead of 25, measured with 9,000 idle ones.
pub(super) async fn http1(context: Arc<Context>, mut framed: Framed<Stream>, client: &ClientLimits) {
    let mut draining = context.gateway.draining();
    loop {
        let begun = tokio::select! {
            // A request of which something has come is read before the connection is told to close.
            biased;
            begun = framed.begun() => begun,
            () = told(&mut draining) => Ok(false),
        };
        match begun {
            Ok(true) => {}
            // Says so to the client, where TLS wants that; nobody is left to be told of a failure.
            Ok(false) => return drop(framed.shutdown().await),
            Err(_) => return,
        }
        let requests = context.clone();
        let service = service_fn(move |request| handle(requests.clone(), None, request));
        let connection =
            http1_builder(&context.listener, client).serve_connection(TokioIo::new(framed), service);
        let mut connection = Box::new(connection.with_upgrades());
        let ended = match driven(Pin::new(&mut *connection), &context, pin!(told(&mut draining))).await {
            Turn::Rests => None,
            Turn::Ends(ended) => Some(ended),
            Turn::Drains => {
                Pin::new(&mut *connection).graceful_shutdown();
                Some((&mut *connection).await)
            }
        };
        if let Some(ended) = ended {
            // A connection's end has been told to whoever waited on it: what is left is to count.
            if ended.is_err_and(|error| error.is_parse()) && !context.state.is_refused() {
                context.gateway.refusals().record(Framing::Unparsed);
            }
            return;
        }
        match connection.into_parts() {
            // What was read and not served can only be empty lines, which mean nothing.
            Some(parts) => framed = parts.io.into_inner(),
            None => return,
        }
    }
}

/// What a connection comes to.
enum Turn<T> {
    /// It ended.
    Ends(T),
    /// It has been idle for a while: see [`crate::proxy::deadlines::ConnectionState::rests`].
    Rests,
    /// It has been idle for too long, or the process is about to end.
    Drains,
}

/// Drives a connection until something becomes of it. `told` is polled at first, which is when it
/// notes whom to wake, and then once draining has begun: 250 instructions less in each turn.
async fn driven<T>(
    mut connection: Pin<&mut impl Future<Output = T>>,
    context: &Context,
    mut told: Pin<&mut impl Future>,
) -> Turn<T> {
    let mut asked = false;
    poll_fn(|task| {
        if let Poll::Ready(ended) = connection.as_mut().poll(task) {
            return Poll::Ready(Turn::Ends(ended));
        }
        if context.state.rests() {
            return Poll::Ready(Turn::Rests);
        }
        if context.state.leaves() {
            return Poll::Ready(Turn::Drains);
        }
        if (!std::mem::replace(&mut asked, true) || context.gateway.is_draining())
            && told.as_mut().poll(task).is_ready()
        {
            return Poll::Ready(Turn::Drains);
        }
        Poll::Pending
    })
    .await
}

fn http1_builder(listener: &Listener, client: &ClientLimits) -> hyper1::Builder {
    let mut builder = hyper1::Builder::new();
    builder
        .half_close(listener.half_close)
        .max_header_size(client.head_bytes)
        .max_buf_size(limits::CONNECTION_BUFFER - limits::HEAD_BYTES + client.head_bytes)
        // Deadlines are ours, and a timer armed per request costs 6 %.
        .header_read_timeout(None);
    // Where the number is hyper's own, saying so makes it fill arrays: 1,700 instructions a request.
    if client.head_fields != limits::HEAD_FIELDS {
        builder.max_headers(client.head_fields);
    }
    builder
}

pub(super) async fn http2(context: Arc<Context>, framed: Framed<Stream>, client: &ClientLimits) {
    let mut draining = context.gateway.draining();
    context.state.is_told_first();
    let requests = context.clone();
    let tasks = StreamTasks::new(context.worker.clone(), context.state.clone());
    let streams = tasks.clone();
    let patience = client.write_stall;
    let service = service_fn(move |request| {
        let piece = Piece::new(Some(patience));
        streams.next(piece.clone());
        // Boxed: a stream's future is moved five times before it runs, for 2,700 instructions of 42,600.
        Box::pin(handle(requests.clone(), Some(piece), request))
    });
    let connection = hyper2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(client.http2_streams)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(
            limits::HTTP2_STREAM_WINDOW
                .saturating_mul(client.http2_streams)
                .min(limits::HTTP2_CONNECTION_WINDOW),
        )
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .keep_alive_interval(limits::HTTP2_CLIENT_PING)
        .keep_alive_timeout(limits::HTTP2_PING_PATIENCE)
        .max_header_list_size(u32::try_from(client.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(limits::HTTP2_LOCAL_ERROR_RESETS)
        .serve_connection(TokioIo::new(Gathered::new(framed)), service);
    let mut connection = pin!(connection);
    let ended = match driven(connection.as_mut(), &context, pin!(told(&mut draining))).await {
        Turn::Ends(ended) => ended,
        Turn::Rests | Turn::Drains => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Some(reason) = ended.err().and_then(|error| given_up(&error)) {
        context.gateway.metrics().gateway.refused(reason);
    }
}

/// Why we gave an HTTP/2 connection up, when it was us.
fn given_up(error: &hyper::Error) -> Option<Refusal> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let reason = error.reason().filter(|_| error.is_library())?;
            return match reason {
                h2::Reason::NO_ERROR => None,
                h2::Reason::ENHANCE_YOUR_CALM => Some(Refusal::Http2Flood),
                _ => Some(Refusal::Http2Protocol),
            };
        }
        cause = error.source();
    }
    None
}

async fn told(draining: &mut watch::Receiver<bool>) {
    // An error means that the gateway is gone, which is as good as being told.
    drop(draining.wait_for(|draining| *draining).await);
}
