//! A name server over UDP whose answers a script makes. `benches/freshness` uses it, too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Seconds for which its answers may be kept.
pub const TTL: u32 = 1;

/// What a name server says of a name's IPv4 addresses. IPv6 ones there are none.
#[derive(Clone, Debug)]
pub enum Say {
    /// These; none is an answer, too.
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name, or the server has failed, as the code says.
    Code(ResponseCode),
}

/// A running name server. Gone when dropped.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// Says what `script` says of a name, without its final dot, when it is asked for the so many-th
    /// time for IPv4 addresses of anything, from 0.
    pub async fn start(script: impl Fn(&str, usize) -> Say + Send + 'static) -> std::io::Result<Self> {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script).await
    }

    /// The same at a given address.
    pub async fn at(
        address: SocketAddr,
        script: impl Fn(&str, usize) -> Say + Send + 'static,
    ) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let serving = tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut query).await {
                if let Some(reply) = reply(&query[..length], &script, &count) {
                    let _gone = socket.send_to(&reply, client).await;
                }
            }
        });
        Ok(Self { address, asked, serving })
    }

    /// Stops; its address can be taken by another one then.
    pub async fn stop(mut self) -> SocketAddr {
        self.serving.abort();
        let _ended = (&mut self.serving).await;
        self.address
    }

    /// Questions for IPv4 addresses so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn reply(query: &[u8], script: &impl Fn(&str, usize) -> Say, asked: &AtomicUsize) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let name = question.name().clone();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.authoritative = true;
    let text = name.to_ascii().to_ascii_lowercase();
    let say = match question.query_type() {
        RecordType::A => script(text.trim_end_matches('.'), asked.fetch_add(1, Ordering::SeqCst)),
        _ => Say::Addresses(Vec::new()),
    };
    reply.add_query(question);
    match say {
        Say::Addresses(addresses) if !addresses.is_empty() => {
            let record = |address| Record::from_rdata(name.clone(), TTL, RData::A(A(address)));
            reply.add_answers(addresses.into_iter().map(record));
        }
        Say::Addresses(_) | Say::Code(ResponseCode::NXDomain) => {
            if let Say::Code(code) = say {
                reply.metadata.response_code = code;
            }
            // RFC 2308, 2.2: what tells that there is nothing from a referral.
            let zone = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, 1);
            reply.add_authority(Record::from_rdata(Name::root(), TTL, RData::SOA(zone)));
        }
        Say::Code(code) => reply.metadata.response_code = code,
    }
    reply.to_vec().ok()
}
