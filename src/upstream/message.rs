//! A request in the form that a backend's protocol takes, made once and sent as often as need be.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, request};

use super::ExchangeError;
use super::backend::Backend;
use super::body::RequestBody;
use super::http1::Exchange;
use super::http1::head::Length;
use super::http2;
use super::patience::Progress;
use crate::plan::Protocol;

/// What is written before a request's body.
#[derive(Clone, Copy)]
pub struct Head<'request> {
    /// Method, target and fields, sanitised.
    pub parts: &'request request::Parts,
    /// How the body ends; framing fields come from this alone.
    pub length: Length,
    /// The protocol that the client asks to switch to.
    pub upgrade: Option<&'request HeaderValue>,
    /// Fields to be written beside those of `parts`, so that nobody need change those.
    pub extra: &'request [(&'request HeaderName, HeaderValue)],
    /// Fields of `parts` to be left out.
    pub without: &'request [&'request HeaderName],
}

/// A request in the form that a backend's protocol takes.
pub enum Message {
    /// For HTTP/1: its head written, its body to be pulled.
    Http1(Box<Exchange>),
    /// For HTTP/2.
    Http2(Box<http::Request<http2::OutgoingBody>>),
    /// For whichever the endpoint turns out to speak.
    Either(Box<Either>),
}

/// A request in both forms, with one body for one of them.
pub struct Either {
    http1: Box<Exchange>,
    http2: Box<http::Request<http2::OutgoingBody>>,
    body: RequestBody,
}

impl<'request> Head<'request> {
    /// The head of `parts` as it is, with a body of `length`.
    pub fn new(parts: &'request request::Parts, length: Length) -> Self {
        Self { parts, length, upgrade: None, extra: &[], without: &[] }
    }

    /// Whether the same request may be sent once more although the first may have had an effect
    /// (RFC 9110, 9.2.2).
    pub fn is_repeatable(&self) -> bool {
        self.length == Length::None && self.parts.method.is_idempotent()
    }
}

impl Message {
    /// The request of `head` and `body`, to be sent to an endpoint of `backend`.
    ///
    /// # Errors
    /// When HTTP/2 has no form for it.
    pub fn new(backend: &Backend, head: &Head<'_>, body: RequestBody) -> Result<Self, ExchangeError> {
        let host = backend.host();
        let http2 = |body| {
            let scheme = if backend.connector().is_some() { "https" } else { "http" };
            let request = http2::request(head, host, body, scheme);
            request.map(Box::new).map_err(|error| ExchangeError::Protocol(error.to_string()))
        };
        Ok(match backend.protocol() {
            Protocol::H2c | Protocol::H2 => Self::Http2(http2(body)?),
            // An upgrade is HTTP/1's alone.
            Protocol::Auto if head.upgrade.is_none() => Self::Either(Box::new(Either {
                http1: Exchange::new(head, host, None),
                http2: http2(None)?,
                body,
            })),
            Protocol::Http1 | Protocol::Auto => Self::Http1(Exchange::new(head, host, body)),
        })
    }

    /// Tells `progress` of each step of the body.
    pub fn tell(&mut self, progress: Option<Arc<Progress>>) {
        match self {
            Self::Http1(exchange) => exchange.tell(progress),
            Self::Http2(request) => request.body_mut().tell(progress),
            Self::Either(forms) => {
                forms.http1.tell(progress.clone());
                forms.http2.body_mut().tell(progress);
            }
        }
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        match self {
            Self::Http1(exchange) => exchange.method(),
            Self::Http2(request) => request.method(),
            Self::Either(forms) => forms.http2.method(),
        }
    }
}

impl Either {
    /// For an endpoint of HTTP/1.
    pub fn http1(self) -> Box<Exchange> {
        let Self { mut http1, body, .. } = self;
        http1.set_body(body);
        http1
    }

    /// For an endpoint of HTTP/2.
    pub fn http2(self) -> Box<http::Request<http2::OutgoingBody>> {
        let Self { mut http2, body, .. } = self;
        http2.body_mut().set(body);
        http2
    }
}
