//! Endpoints from names: the addresses of a host, or the targets of a service (SRV, RFC 2782).
//!
//! An answer is asked for again when its TTL ends, whether or not there is traffic. That a name does
//! not exist, or has no addresses, is an answer; anything else that goes wrong is a failure, and
//! what was known stays in use.

pub(super) mod client;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use tokio::task::JoinSet;

pub use self::client::DnsSettings;
use self::client::{DnsClient, Families, Found};
use super::resolver::Answer;
use super::source::{EndpointSpec, SourceError, Update};
use crate::limits;

/// Endpoints from a name.
pub(super) struct DnsSource {
    question: Question,
    client: Arc<DnsClient>,
    /// The last good answers, by host and family.
    memory: HashMap<String, [Vec<IpAddr>; 2]>,
}

enum Question {
    Addresses { host: String, port: u16 },
    Services(String),
}

/// What is known of one host.
struct Host {
    addresses: Vec<IpAddr>,
    ttl: Duration,
    /// One family could not be learned, and what was known of it is used.
    warning: Option<String>,
}

impl DnsSource {
    /// The addresses of `host`, each with `port`.
    pub(super) fn addresses(host: String, port: u16, client: Arc<DnsClient>) -> Self {
        Self { question: Question::Addresses { host, port }, client, memory: HashMap::new() }
    }

    /// The targets of the service `name`.
    pub(super) fn services(name: String, client: Arc<DnsClient>) -> Self {
        Self { question: Question::Services(name), client, memory: HashMap::new() }
    }

    /// Asks the name servers.
    pub(super) async fn ask(&mut self) -> Answer {
        let (update, ttl, warning) = match &self.question {
            Question::Addresses { host, port } => {
                let (host, port) = (host.clone(), *port);
                self.ask_addresses(&host, port).await
            }
            Question::Services(name) => {
                let name = name.clone();
                self.ask_services(&name).await
            }
        };
        let (least, greatest) = limits::DNS_TTL;
        Answer { update, event: Instant::now(), refresh: Some(ttl.clamp(least, greatest)), warning }
    }

    async fn ask_addresses(&mut self, host: &str, port: u16) -> (Update, Duration, Option<String>) {
        if let Ok(address) = host.parse() {
            let endpoint = EndpointSpec::new(SocketAddr::new(address, port));
            return (Update::Full(vec![endpoint]), limits::DNS_TTL.1, None);
        }
        let families = self.client.addresses(host).await;
        match remember(self.memory.entry(host.to_owned()).or_default(), families) {
            Found::Records(host, ttl) => {
                let mut addresses = host.addresses;
                // Servers rotate their answers; that is not a change.
                addresses.sort_unstable();
                addresses.dedup();
                let endpoint = |address| EndpointSpec::new(SocketAddr::new(address, port));
                (Update::Full(addresses.into_iter().map(endpoint).collect()), ttl, host.warning)
            }
            Found::Nothing(reason) => (Update::Gone(reason), limits::DNS_EMPTY, None),
            Found::Failed(error) => (Update::Failed(SourceError(error)), limits::DNS_EMPTY, None),
        }
    }

    async fn ask_services(&mut self, name: &str) -> (Update, Duration, Option<String>) {
        let failed = |error| (Update::Failed(SourceError(error)), limits::DNS_EMPTY, None);
        let (records, mut ttl) = match self.client.services(name).await {
            Found::Records(records, ttl) => (targets(&records), ttl),
            Found::Nothing(reason) => return (Update::Gone(reason), limits::DNS_EMPTY, None),
            Found::Failed(error) => return failed(error),
        };
        let mut warning = (records.len() > limits::DNS_TARGETS)
            .then(|| format!("{name} has {} targets: only {} are used", records.len(), limits::DNS_TARGETS));
        let records = &records[..records.len().min(limits::DNS_TARGETS)];
        let mut answers = look_up(&self.client, records).await;
        let mut memory = std::mem::take(&mut self.memory);
        let mut endpoints = Vec::new();
        let mut failure = None;
        let mut hosts: HashMap<String, Host> = HashMap::new();
        for (target, families) in answers.drain() {
            // What is remembered is what is still named: the map does not outgrow the answer.
            let known =
                self.memory.entry(target.clone()).or_insert(memory.remove(&target).unwrap_or_default());
            match remember(known, families) {
                Found::Records(host, target_ttl) => {
                    ttl = ttl.min(target_ttl);
                    warning = warning.or_else(|| host.warning.clone());
                    hosts.insert(target, host);
                }
                Found::Nothing(_) => ttl = ttl.min(limits::DNS_EMPTY),
                Found::Failed(error) => failure = Some(error),
            }
        }
        // A list with a hole in it is not a list: the last complete one stays.
        if let Some(error) = failure {
            return failed(error);
        }
        for record in records {
            let Some(host) = hosts.get(&record.target.to_string()) else { continue };
            endpoints.extend(host.addresses.iter().map(|address| EndpointSpec {
                weight: weight(record, records),
                ..EndpointSpec::new(SocketAddr::new(*address, record.port))
            }));
        }
        endpoints.sort_by(|one, other| one.address.cmp(&other.address).then(other.weight.cmp(&one.weight)));
        endpoints.dedup_by(|later, first| later.address == first.address);
        if endpoints.is_empty() {
            return (Update::Gone(format!("no target of {name} has an address")), limits::DNS_EMPTY, None);
        }
        (Update::Full(endpoints), ttl, warning)
    }
}

/// The records of the lowest priority. A single target "." says that there is no such service.
fn targets(records: &[RData]) -> Vec<SRV> {
    let services = records.iter().filter_map(|record| match record {
        RData::SRV(service) if !service.target.is_root() => Some(service),
        _ => None,
    });
    let lowest = services.clone().map(|service| service.priority).min();
    services.filter(|service| Some(service.priority) == lowest).cloned().collect()
}

/// RFC 2782: beside others, a weight of 0 has a very small chance; among its like, an equal one.
fn weight(record: &SRV, all: &[SRV]) -> u32 {
    const SCALE: u32 = 100;
    let (any, none) =
        (all.iter().any(|record| record.weight > 0), all.iter().any(|record| record.weight == 0));
    match (u32::from(record.weight), any && none) {
        (0, _) => 1,
        (weight, true) => weight * SCALE,
        (weight, false) => weight,
    }
}

/// The addresses of every target, a few at once.
async fn look_up(client: &Arc<DnsClient>, records: &[SRV]) -> HashMap<String, Families> {
    let mut waiting: Vec<String> = records.iter().map(|record| record.target.to_string()).collect();
    waiting.sort_unstable();
    waiting.dedup();
    let mut running = JoinSet::new();
    let mut found = HashMap::new();
    loop {
        while running.len() < limits::DNS_TARGETS_AT_ONCE
            && let Some(target) = waiting.pop()
        {
            let client = client.clone();
            running.spawn(async move {
                let families = client.addresses(&target).await;
                (target, families)
            });
        }
        match running.join_next().await {
            Some(Ok((target, families))) => {
                found.insert(target, families);
            }
            Some(Err(error)) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
            None => return found,
        }
    }
}

/// Joins what was learned of both families with what was known. Success of either is an answer, as
/// many servers know nothing of IPv6; but addresses that were known are not lost to a time-out.
fn remember(known: &mut [Vec<IpAddr>; 2], families: Families) -> Found<Host> {
    let answered = families.iter().any(|found| matches!(found, Found::Records(..)));
    let mut host = Host { addresses: Vec::new(), ttl: limits::DNS_TTL.1, warning: None };
    let (mut nothing, mut failure) = (None, None);
    for (known, found) in known.iter_mut().zip(families) {
        match found {
            Found::Records(addresses, ttl) => {
                host.ttl = host.ttl.min(ttl);
                *known = addresses;
            }
            Found::Nothing(reason) => {
                nothing = Some(reason);
                if answered {
                    known.clear();
                }
            }
            Found::Failed(error) => {
                if !known.is_empty() {
                    host.ttl = host.ttl.min(limits::SOURCE_BACKOFF.1);
                    host.warning = Some(error.clone());
                }
                failure = Some(error);
            }
        }
        host.addresses.extend_from_slice(known);
    }
    let ttl = host.ttl;
    match (answered, failure, nothing) {
        (true, _, _) => Found::Records(host, ttl),
        (false, Some(error), _) => Found::Failed(error),
        (false, None, reason) => {
            known.iter_mut().for_each(Vec::clear);
            Found::Nothing(reason.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
