//! DNS: how long after a name server changes its answer the new address is in use.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mirrorgate::app::{Origin, start};
use tokio::net::{TcpListener, UdpSocket};

use crate::Outcome;
use crate::figures::quantiles;
use crate::gateway::backend;

/// Seconds that an answer may be kept.
const TTL: u32 = 1;

type Answers = Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>;

/// Changes the answers for a primary's and a mirror's name `changes` times: to other addresses, and
/// at last to none.
pub(crate) async fn run(changes: usize) -> Outcome<()> {
    let answers = Answers::default();
    let server = serve(answers.clone()).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gateway.yaml");
    let names = ["primary", "mirror"];
    let tell = |addresses: &[Ipv4Addr]| {
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            answers.insert(format!("{name}.bench.test."), addresses.to_vec());
        }
    };
    tell(&[Ipv4Addr::new(127, 0, 0, 2)]);
    // The first listener's port is no matter: nothing is sent here.
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    std::fs::write(
        &file,
        format!(
            "listeners: [127.0.0.1:0]\nadmin: off\nworkers: 1\nresolver: {{ servers: [\"{server}\"] }}\n\
             routes: [{{ backend: primary, mirrors: [mirror] }}]\n\
             backends:\n  primary: {{ dns: \"primary.bench.test.:{port}\" }}\n  \
             mirror: {{ dns: \"mirror.bench.test.:{port}\" }}\n"
        ),
    )?;
    let gateway = start(Origin::File(file)).await?;
    let mut times = [Vec::new(), Vec::new()];
    let mut emptied = [Vec::new(), Vec::new()];
    for change in 0..=changes {
        let empty = change == changes;
        let address = Ipv4Addr::new(127, 0, 0, 3 + (change % 200) as u8);
        let begun = Instant::now();
        tell(if empty { &[] } else { std::slice::from_ref(&address) });
        for (index, name) in names.into_iter().enumerate() {
            let backend = backend(&gateway, name).ok_or("a backend is missing")?;
            let wanted = SocketAddr::from((address, port)).to_string();
            let done = || {
                let set = backend.endpoints();
                let mut entries = set.entries().iter();
                match empty {
                    true => set.is_empty(),
                    false => entries.any(|entry| entry.endpoint.address().to_string() == wanted),
                }
            };
            let mut revision = backend.revision();
            tokio::time::timeout(Duration::from_secs(30), revision.wait_for(|_| done())).await??;
            let all = if empty { &mut emptied } else { &mut times };
            all[index].push(begun.elapsed());
        }
    }
    println!("\na name's addresses change, TTL {TTL} s: to the set in use (median/p99/most, ms)");
    for (index, name) in names.into_iter().enumerate() {
        println!(
            "  {name:<9} changed {:>26}   emptied {:>26}",
            quantiles(&times[index]),
            quantiles(&emptied[index])
        );
    }
    Ok(())
}

/// A name server that knows A records and nothing else.
async fn serve(answers: Answers) -> Outcome<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut query = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut query).await {
            if let Some(reply) = answer(&query[..length], &answers) {
                let _ = socket.send_to(&reply, client).await;
            }
        }
    });
    Ok(address)
}

/// RFC 1035, 4.1: the query's header and question again, and the records.
fn answer(query: &[u8], answers: &Answers) -> Option<Vec<u8>> {
    const ADDRESS: [u8; 2] = [0, 1];
    let mut name = String::new();
    let mut at = 12;
    while let Some(length @ 1..) = query.get(at).map(|length| usize::from(*length)) {
        name.push_str(std::str::from_utf8(query.get(at + 1..at + 1 + length)?).ok()?);
        name.push('.');
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let known = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let addresses =
        known.get(&name.to_ascii_lowercase()).filter(|_| query.get(at + 1..at + 3) == Some(&ADDRESS));
    let addresses = addresses.cloned().unwrap_or_default();
    let mut reply = query.get(..2)?.to_vec();
    // An authoritative answer to one question; no additional records.
    reply.extend([0x85, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    reply.extend(question);
    for address in addresses {
        reply.extend([0xC0, 12, 0, 1, 0, 1]);
        reply.extend(TTL.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
