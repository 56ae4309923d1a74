//! HTTP/1.1 to an endpoint: one exchange on one connection.
//!
//! Our own codec instead of hyper's client, for two reasons. It is driven inside the task that waits
//! for the response, so a request crosses no task and no channel; measured on prototypes, a copy
//! costs about half. And it says exactly whether a byte was written, which decides what may be sent
//! again. Called by [`crate::upstream::exchange`] for every lane alike.

pub mod body;
pub mod head;
mod reading;
mod rest;
pub mod upload;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::{HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};

use self::body::{Decoder, Piece};
use self::head::{Length, NotHttp, ResponseHead, read_response};
use self::rest::Rest;
use self::upload::{Upload, UploadError};
use super::body::{BodyError, RequestBody, ResponseError};
use super::message::Head;
use super::patience::Progress;
use super::pool::{Expiry, Lease};
use super::proxy_protocol::Addresses;
use super::stream::Stream;
use crate::limits;

/// One request and its response on one connection.
pub struct Exchange {
    /// `None` once the connection is given back or given up.
    connection: Option<(Lease, Stream)>,
    method: Method,
    upload: Upload,
    read: BytesMut,
    /// Whether the last read filled the room that it had.
    filled: bool,
    decoder: Decoder,
    keep_alive: bool,
    fields: bool,
    expiry: Expiry,
    /// Whom its connection is to name.
    client: Option<Box<Addresses>>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    /// The connection ended; `answered` when bytes of a response had come.
    Reset { answered: bool },
    /// The endpoint was removed and has had its time.
    Removed,
    /// What came is not HTTP.
    Protocol(NotHttp),
    /// The request's body broke off.
    Request(BodyError),
}

impl Exchange {
    /// The request of `head` and `body`, without a connection yet.
    pub fn new(head: &Head<'_>, host: Option<&HeaderValue>, body: RequestBody) -> Box<Self> {
        Box::new(Self {
            connection: None,
            method: head.parts.method.clone(),
            upload: Upload::new(head, host, body),
            read: BytesMut::new(),
            filled: false,
            decoder: Decoder::new(Length::None),
            keep_alive: false,
            fields: true,
            expiry: Expiry::default(),
            client: None,
        })
    }

    /// Its connection is to name `client` by the PROXY protocol.
    pub fn is_for(&mut self, client: Option<&Addresses>) {
        self.client = client.map(|client| Box::new(*client));
    }

    /// Whom its connection is to name.
    pub fn client(&self) -> Option<&Addresses> {
        self.client.as_deref()
    }

    /// Tells `progress` of each step of the body.
    pub fn tell(&mut self, progress: Option<Arc<Progress>>) {
        self.upload.tell(progress);
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Gives it the body that it was made without.
    pub fn set_body(&mut self, body: RequestBody) {
        self.upload.set_body(body);
    }

    /// Puts it onto a connection. `fields` says whether the response's fields are wanted, `gathers`
    /// whether the first write lets others go first.
    pub fn connect(&mut self, lease: Lease, stream: Stream, fields: bool, gathers: bool) {
        self.connection = Some((lease, stream));
        self.fields = fields;
        if gathers {
            self.upload.gather();
        }
    }

    /// Sends the request and waits for the head of the final response. The body may still be on its
    /// way out then; polling the response's body goes on with it.
    pub async fn head(&mut self) -> Result<ResponseHead, Failure> {
        let mut responses = 0;
        loop {
            let head = poll_fn(|context| self.poll_head(context)).await?;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                // The connection is no longer HTTP's, so there is no end at which to give it back.
                return if self.upload.asks_to_upgrade() {
                    Ok(head)
                } else {
                    Err(Failure::Protocol(NotHttp::Upgrade))
                };
            }
            if head.status.is_informational() {
                responses += 1;
                if responses > limits::INTERIM_RESPONSES {
                    return Err(Failure::Protocol(NotHttp::Interim));
                }
                if head.status == StatusCode::CONTINUE {
                    self.upload.proceed();
                } else if self.fields
                    && let Some((lease, _)) = &self.connection
                {
                    lease.worker().dropped_interim();
                }
                continue;
            }
            self.decoder = Decoder::new(head.length);
            self.keep_alive = head.keep_alive;
            if self.decoder.is_end() {
                self.finish();
            }
            return Ok(head);
        }
    }

    /// Leaves the connection. The request may go onto another one if nothing of it was sent.
    pub fn unsent(mut self: Box<Self>) -> Option<Box<Self>> {
        self.connection = None;
        (!self.upload.sent()).then_some(self)
    }

    /// The connection and what was read beyond the head, after 101.
    pub fn into_tunnel(mut self: Box<Self>) -> Option<(Lease, Stream, Bytes)> {
        let read = self.read.split().freeze();
        self.connection.take().map(|(lease, stream)| (lease, stream, read))
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Failure>> {
        match self.poll_upload(context) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Request(error))),
            Poll::Pending if self.upload.lets_others_first() => return Poll::Pending,
            _ => {}
        }
        loop {
            // Looking again only makes sense with a line end among what is new; else a response that
            // drips would be parsed once a byte.
            if memchr::memchr(b'\n', &self.read).is_some()
                && let Some(head) =
                    read_response(&mut self.read, &self.method, self.fields).map_err(Failure::Protocol)?
            {
                return Poll::Ready(Ok(head));
            }
            if self.read.len() > limits::HEAD_BYTES {
                return Poll::Ready(Err(Failure::Protocol(NotHttp::TooLarge)));
            }
            let read = self.poll_read(context, limits::READ_FIRST);
            if read.is_pending() && self.poll_expired(context).is_ready() {
                return Poll::Ready(Err(Failure::Removed));
            }
            match ready!(read) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(Err(Failure::Reset { answered: !self.read.is_empty() })),
            }
        }
    }

    /// The next frame of the response.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        if self.connection.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Err(error)) = self.poll_upload(context) {
            return self.fail(error.to_string());
        }
        if self.upload.poll_stalled(context).is_ready() {
            // An endpoint that answers and does not read: its answer goes on without the rest.
            self.give_up_upload();
        }
        loop {
            let piece = match self.decoder.next(&mut self.read) {
                Ok(piece) => piece,
                Err(error) => return self.fail(error.to_string()),
            };
            let frame = match piece {
                Piece::Data(data) => Some(Frame::data(data)),
                Piece::Trailers(trailers) => Some(Frame::trailers(trailers)),
                Piece::End => None,
                Piece::More => match ready!(self.poll_more(context)) {
                    Ok(count) if count > 0 => continue,
                    Ok(_) if self.decoder.may_close() => None,
                    Ok(_) => return self.fail("closed before the end of the body".into()),
                    Err(error) => return self.fail(error.to_string()),
                },
            };
            if frame.is_none() || self.decoder.is_end() {
                self.finish();
            }
            return Poll::Ready(frame.map(Ok));
        }
    }

    /// Goes on with the request while nobody reads its response. Ready when it was written, or
    /// cannot be.
    pub fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_upload(context).map(drop)
    }

    /// Whether the response was read to its end.
    pub fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    /// What is known of the rest's size.
    pub fn size_hint(&self) -> SizeHint {
        match self.decoder.remaining() {
            Some(bytes) => SizeHint::with_exact(bytes),
            None => SizeHint::default(),
        }
    }

    /// Goes on sending. A connection that breaks while the request is sent may still hold a response
    /// (an early refusal), so only a broken body is an error here.
    fn poll_upload(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some((_, stream)) = &mut self.connection else { return Poll::Ready(Ok(())) };
        if self.upload.is_done() {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.upload.poll(stream, context)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(UploadError::Body(error)) => Poll::Ready(Err(error)),
            Err(UploadError::Io(_)) if self.upload.sent() => {
                self.give_up_upload();
                Poll::Ready(Ok(()))
            }
            // Nothing left: reading would only find the same, and the request can go elsewhere.
            Err(UploadError::Io(_)) => Poll::Pending,
        }
    }

    fn give_up_upload(&mut self) {
        self.upload.abandon();
        self.keep_alive = false;
    }

    fn fail<T>(&mut self, reason: String) -> Poll<Option<Result<T, ResponseError>>> {
        self.connection = None;
        Poll::Ready(Some(Err(ResponseError::Upstream(reason))))
    }

    /// The response is complete: gives the connection back, or first goes on with a request that is
    /// longer than its answer.
    fn finish(&mut self) {
        let reusable = self.keep_alive && self.read.is_empty();
        self.read = BytesMut::new();
        let Some((lease, stream)) = self.connection.take() else { return };
        if self.upload.is_done() {
            if reusable {
                lease.give_back(stream);
            }
            return;
        }
        if self.upload.is_held() {
            // The body was never asked for: taking it now would ask the client for it after the
            // response, and take its next request for the body (RFC 9110, 10.1.1).
            self.upload.abandon();
            return;
        }
        let mut rest = Rest { upload: std::mem::replace(&mut self.upload, Upload::done()), stream };
        let worker = lease.worker().clone();
        worker.spawn(async move {
            let sent = match select(pin!(rest.send()), pin!(lease.expired())).await {
                Either::Left((sent, _)) => sent,
                Either::Right(_) => false,
            };
            if sent && reusable && rest.stream.is_quiet() {
                lease.give_back(rest.stream);
            }
        });
    }
}
