#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! A name server for tests: real sockets on loopback, and answers that a test changes as it goes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::discovery::DnsSettings;

/// How a question is answered.
#[derive(Clone)]
pub(super) enum Reply {
    /// With these.
    Records(Vec<Record>),
    /// With these over TCP, with none of them over UDP.
    Truncated(Vec<Record>),
    /// With this code and nothing else.
    Code(ResponseCode),
    /// With the name of another zone's server.
    Referral,
    /// Not at all.
    Silence,
}

/// A running name server. What is not set does not exist.
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    replies: HashMap<(Name, RecordType), Reply>,
    asked: HashMap<(Name, RecordType), usize>,
    asked_by_tcp: usize,
}

impl NameServer {
    pub(super) async fn start() -> Self {
        // The port must be free for both: UDP's is taken first, TCP's may turn out to be in use.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, state.clone()));
        tasks.spawn(serve_tcp(tcp, state.clone()));
        Self { address, state, _tasks: tasks }
    }

    pub(super) fn settings(&self) -> DnsSettings {
        let nowhere = "/nonexistent";
        DnsSettings {
            servers: vec![self.address],
            hosts: nowhere.into(),
            resolv_conf: nowhere.into(),
            ..DnsSettings::default()
        }
    }

    pub(super) fn set(&self, host: &str, record_type: RecordType, reply: Reply) {
        self.state.lock().unwrap().replies.insert((name(host), record_type), reply);
    }

    /// Sets both families: the other one has no records.
    pub(super) fn set_addresses(&self, host: &str, ttl: u32, addresses: &[&str]) {
        let records = addresses.iter().map(|address| record(host, ttl, address)).collect::<Vec<_>>();
        for record_type in [RecordType::A, RecordType::AAAA] {
            let family = records.iter().filter(|record| record.record_type() == record_type);
            self.set(host, record_type, Reply::Records(family.cloned().collect()));
        }
    }

    pub(super) fn set_both(&self, host: &str, reply: &Reply) {
        self.set(host, RecordType::A, reply.clone());
        self.set(host, RecordType::AAAA, reply.clone());
    }

    pub(super) fn remove(&self, host: &str) {
        self.state.lock().unwrap().replies.retain(|(known, _), _| *known != name(host));
    }

    pub(super) fn asked(&self, host: &str, record_type: RecordType) -> usize {
        self.state.lock().unwrap().asked.get(&(name(host), record_type)).copied().unwrap_or(0)
    }

    pub(super) fn asked_by_tcp(&self) -> usize {
        self.state.lock().unwrap().asked_by_tcp
    }
}

pub(super) fn name(host: &str) -> Name {
    Name::from_str_relaxed(host).unwrap()
}

pub(super) fn record(host: &str, ttl: u32, address: &str) -> Record {
    let data = match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => RData::A(A(address)),
        std::net::IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name(host), ttl, data)
}

pub(super) fn alias(host: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(host), ttl, RData::CNAME(CNAME(name(target))))
}

pub(super) fn service(
    host: &str,
    ttl: u32,
    (priority, weight, port): (u16, u16, u16),
    target: &str,
) -> Record {
    Record::from_rdata(name(host), ttl, RData::SRV(SRV::new(priority, weight, port, name(target))))
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        if let Some(response) = respond(&buffer[..length], &state, false) {
            socket.send_to(&response, client).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_connection(stream, state.clone()));
    }
}

async fn serve_connection(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut request = vec![0; length.into()];
        stream.read_exact(&mut request).await.unwrap();
        if let Some(response) = respond(&request, &state, true) {
            stream.write_u16(u16::try_from(response.len()).unwrap()).await.unwrap();
            stream.write_all(&response).await.unwrap();
        }
    }
}

fn respond(request: &[u8], state: &Mutex<State>, tcp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(request).unwrap();
    let query = request.queries[0].clone();
    let key = (query.name().clone(), query.query_type());
    let mut state = state.lock().unwrap();
    *state.asked.entry(key.clone()).or_default() += 1;
    state.asked_by_tcp += usize::from(tcp);
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.add_query(query);
    response.metadata.authoritative = true;
    match state.replies.get(&key).cloned().unwrap_or(Reply::Code(ResponseCode::NXDomain)) {
        Reply::Truncated(_) if !tcp => response.metadata.truncation = true,
        Reply::Records(records) | Reply::Truncated(records) => {
            if records.is_empty() {
                response.add_authority(start_of_authority());
            }
            response.add_answers(records);
        }
        Reply::Code(code) => {
            response.metadata.response_code = code;
            if code == ResponseCode::NXDomain {
                response.add_authority(start_of_authority());
            }
        }
        Reply::Referral => {
            let server = hickory_resolver::proto::rr::rdata::NS(name("ns.elsewhere."));
            response.add_authority(Record::from_rdata(name("test."), 60, RData::NS(server)));
        }
        Reply::Silence => return None,
    }
    Some(response.to_vec().unwrap())
}

fn start_of_authority() -> Record {
    let data = SOA::new(name("ns.test."), name("root.test."), 1, 60, 60, 60, 60);
    Record::from_rdata(name("test."), 60, RData::SOA(data))
}
