//! A request in the form that a backend's protocol takes, made once and sent as often as need be.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, request};

use super::body::RequestBody;
use super::http1::Exchange;
use super::http1::head::Length;
use super::http2;
use super::patience::Progress;
use super::proxy_protocol::Addresses;
use super::{ExchangeError, Speech};
use crate::plan::Protocol;

/// What is written before a request's body.
#[derive(Clone, Copy)]
pub struct Head<'request> {
    /// Method, target and fields, sanitised.
    pub parts: &'request request::Parts,
    /// How the body ends; framing fields come from this alone.
    pub length: Length,
    /// Whose request it is, for endpoints that are told by the PROXY protocol.
    pub client: Option<&'request Addresses>,
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
    Http2(Box<http::Request<http2::body::OutgoingBody>>),
    /// For whichever the endpoint turns out to speak.
    Either(Box<Either>),
}

/// A request in both forms, with one body for one of them.
pub struct Either {
    http1: Box<Exchange>,
    http2: Box<http::Request<http2::body::OutgoingBody>>,
    body: RequestBody,
}

impl<'request> Head<'request> {
    /// The head of `parts` as it is, with a body of `length`.
    pub fn new(parts: &'request request::Parts, length: Length) -> Self {
        Self { parts, length, client: None, upgrade: None, extra: &[], without: &[] }
    }

    /// Whether the same request may be sent once more although the first may have had an effect
    /// (RFC 9110, 9.2.2).
    pub fn is_repeatable(&self) -> bool {
        self.length == Length::None && self.parts.method.is_idempotent()
    }
}

impl Message {
    /// The request of `head` and `body`, to be sent to an endpoint that is spoken to like this.
    ///
    /// # Errors
    /// When HTTP/2 has no form for it.
    pub fn new(speech: &Speech, head: &Head<'_>, body: RequestBody) -> Result<Self, ExchangeError> {
        let host = speech.host.as_ref();
        let http2 = |body| {
            let scheme = if speech.connector.is_some() { "https" } else { "http" };
            let request = http2::request(head, host, body, scheme);
            request.map(Box::new).map_err(|error| ExchangeError::Protocol(error.to_string()))
        };
        let has_body = !matches!(head.length, Length::None | Length::Exact(0));
        Ok(match speech.protocol {
            Protocol::H2c | Protocol::H2 if head.upgrade.is_some() && has_body => {
                let error = "an upgrade with a body has no form in HTTP/2".to_owned();
                return Err(ExchangeError::Protocol(error));
            }
            Protocol::H2c | Protocol::H2 => Self::Http2(http2(body)?),
            // HTTP/1 is what all endpoints take an upgrade by.
            Protocol::Auto if head.upgrade.is_none() => Self::Either(Box::new(Either {
                http1: Exchange::new(head, host, None),
                http2: http2(None)?,
                body,
            })),
            Protocol::Http1 | Protocol::Auto => {
                let mut exchange = Exchange::new(head, host, body);
                if speech.transport.proxy_protocol.is_some() {
                    exchange.is_for(head.client);
                }
                Self::Http1(exchange)
            }
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
    pub fn http2(self) -> Box<http::Request<http2::body::OutgoingBody>> {
        let Self { mut http2, body, .. } = self;
        http2.body_mut().set(body);
        http2
    }
}
