use http::{HeaderMap, HeaderValue, request};
use std::net::IpAddr;
pub struct ClientInfo;
impl ClientInfo {
    pub fn new(_: IpAddr, _: &'static str) -> Self {
        Self
    }
}
pub struct Target {
    pub hops: Option<u32>,
    host: String,
}
impl Target {
    pub fn host(&self) -> &str {
        &self.host
    }
}
pub struct TrustSettings;
pub struct Refused(pub &'static str);
pub fn inbound(
    parts: &mut request::Parts,
    _: &ClientInfo,
    _: &TrustSettings,
    _: impl FnOnce() -> (u64, u64),
) -> Result<Target, Refused> {
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "te"] {
        parts.headers.remove(name);
    }
    let host = parts
        .headers
        .get("host")
        .and_then(|h| h.to_str().ok())
        .unwrap_or("")
        .split(':')
        .next()
        .unwrap_or("")
        .to_owned();
    let _ = HeaderValue::from_static("");
    Ok(Target { hops: None, host })
}
pub fn outbound(headers: &mut HeaderMap) {
    for name in ["connection", "transfer-encoding", "keep-alive"] {
        headers.remove(name);
    }
}
