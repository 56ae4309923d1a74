//! Asks name servers, and says which answers are answers.
//!
//! The names are asked of the servers in `/etc/resolv.conf`, after `/etc/hosts`, both read again when
//! they change, or of servers that are given. Nothing is cached here and nothing tried twice: how
//! long an answer is good for, and when to ask again, is the resolver's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits;

/// Who answers for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// These servers, over UDP and TCP; empty: those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// Domains that a name without a final dot is tried in, when `servers` are given.
    pub search: Vec<String>,
    /// The system's list of servers and search domains.
    pub resolv_conf: PathBuf,
    /// The system's list of known names.
    pub hosts: PathBuf,
    /// How long one query may take.
    pub query: Duration,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    /// This, for so long.
    Records(T, Duration),
    /// It is known that there is nothing.
    Nothing(String),
    /// It is not known.
    Failed(String),
}

/// What came of asking for the addresses of a name, for each family.
pub(super) type Families = [Found<Vec<IpAddr>>; 2];

/// A client for name servers.
pub(in crate::discovery) struct DnsClient {
    settings: DnsSettings,
    permits: Semaphore,
    current: Mutex<Option<(Stamps, Instant, Arc<Configured>)>>,
}

/// When the system's files were changed last, and their lengths.
type Stamps = [Option<(SystemTime, u64)>; 2];

struct Configured {
    resolver: Result<TokioResolver, String>,
    hosts: Hosts,
    search: Vec<Name>,
    dots: usize,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            query: limits::DNS_QUERY,
        }
    }
}

impl DnsClient {
    pub(in crate::discovery) fn new(settings: DnsSettings) -> Self {
        Self { settings, permits: Semaphore::new(limits::DNS_LOOKUPS), current: Mutex::new(None) }
    }

    /// The IPv4 and the IPv6 addresses of `host`. When nothing is found for both, that is so for
    /// each domain of the search list.
    pub(super) async fn addresses(&self, host: &str) -> Families {
        let name = match Name::from_str_relaxed(host) {
            Ok(name) => name,
            Err(error) => return unknown(&format!("{host}: {error}")),
        };
        let configured = self.configured();
        if let Some(known) = configured.known(&name) {
            return known;
        }
        let search = async {
            let mut last = unknown("no name to look up");
            for candidate in configured.candidates(&name) {
                let (v4, v6) = tokio::join!(
                    configured.query(&candidate, RecordType::A),
                    configured.query(&candidate, RecordType::AAAA),
                );
                last =
                    [v4, v6].map(|found| found.map(|data| data.iter().filter_map(RData::ip_addr).collect()));
                // A failure ends the search, too: what a later domain has is another service.
                if !last.iter().all(|found| matches!(found, Found::Nothing(_))) {
                    break;
                }
            }
            last
        };
        self.bounded(search).await.unwrap_or_else(|error| unknown(&error))
    }

    /// The SRV records of `service`.
    pub(super) async fn services(&self, service: &str) -> Found<Vec<RData>> {
        let name = match Name::from_str_relaxed(service) {
            Ok(name) => name,
            Err(error) => return Found::Failed(format!("{service}: {error}")),
        };
        let configured = self.configured();
        let search = async {
            let mut last = Found::Failed("no name to look up".to_owned());
            for candidate in configured.candidates(&name) {
                last = configured.query(&candidate, RecordType::SRV).await;
                if !matches!(last, Found::Nothing(_)) {
                    break;
                }
            }
            last
        };
        self.bounded(search).await.unwrap_or_else(Found::Failed)
    }

    async fn bounded<T>(&self, search: impl Future<Output = T>) -> Result<T, String> {
        let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
        timeout(limits::DNS_LOOKUP, search).await.map_err(|_| "request timed out".to_owned())
    }

    /// The configuration as the system's files have it now.
    fn configured(&self) -> Arc<Configured> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let stamps = match &mut *current {
            Some((_, checked, configured)) if now - *checked < limits::DNS_CONFIG_RESYNC => {
                return configured.clone();
            }
            _ => [&self.settings.resolv_conf, &self.settings.hosts].map(|path| modified(path)),
        };
        if let Some((known, checked, configured)) = &mut *current
            && *known == stamps
        {
            *checked = now;
            return configured.clone();
        }
        let configured = Arc::new(Configured::read(&self.settings));
        *current = Some((stamps, now, configured.clone()));
        configured
    }
}

impl Configured {
    fn read(settings: &DnsSettings) -> Self {
        let mut hosts = Hosts::default();
        if let Ok(file) = std::fs::File::open(&settings.hosts)
            && let Err(error) = hosts.read_hosts_conf(file)
        {
            tracing::warn!(%error, path = %settings.hosts.display(), "reading known names");
        }
        let read = if settings.servers.is_empty() {
            system(&settings.resolv_conf)
        } else {
            given(&settings.servers, &settings.search)
        };
        let (config, mut options) = match read {
            Ok(read) => read,
            Err(error) => return Self { resolver: Err(error), hosts, search: Vec::new(), dots: 1 },
        };
        // Each answer must show its own TTL, and each failure must be told at once.
        options.cache_size = 0;
        options.attempts = 0;
        options.timeout = settings.query;
        // `known` looks there, and sees when the file changes.
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = 2 * limits::DNS_LOOKUPS;
        let search = match (config.search(), config.domain()) {
            ([], Some(domain)) => vec![domain.clone()],
            (search, _) => search.to_vec(),
        };
        let dots = options.ndots;
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string());
        Self { resolver, hosts, search, dots }
    }

    /// What needs no name server.
    fn known(&self, name: &Name) -> Option<Families> {
        let addresses = |record_type| -> Vec<IpAddr> {
            let found = self.hosts.lookup_static_host(&Query::query(name.clone(), record_type));
            found
                .iter()
                .flat_map(|found| found.answers())
                .filter_map(|record| record.data.ip_addr())
                .collect()
        };
        let mut families = [addresses(RecordType::A), addresses(RecordType::AAAA)];
        if families.iter().all(Vec::is_empty) {
            // RFC 6761, 6.3: these names are never asked of a name server.
            if !name.is_localhost() {
                return None;
            }
            families = [vec![Ipv4Addr::LOCALHOST.into()], vec![Ipv6Addr::LOCALHOST.into()]];
        }
        Some(families.map(|addresses| match addresses.is_empty() {
            true => Found::Nothing("not in the hosts file".to_owned()),
            false => Found::Records(addresses, limits::FILE_RESYNC),
        }))
    }

    /// The full names to try, in order, as resolv.conf(5) has it.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() {
            return vec![absolute];
        }
        let mut names: Vec<Name> =
            self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        // As many dots as labels less one.
        let first = usize::from(name.num_labels()) > self.dots;
        names.insert(if first { 0 } else { names.len() }, absolute);
        names
    }

    async fn query(&self, name: &Name, record_type: RecordType) -> Found<Vec<RData>> {
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(error) => return Found::Failed(error.clone()),
        };
        match resolver.lookup(name.clone(), record_type).await {
            Ok(lookup) => {
                // The whole chain of aliases: the shortest-lived link is where it may change.
                let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
                let wanted = lookup.answers().iter().filter(|record| record.record_type() == record_type);
                let data: Vec<RData> = wanted.map(|record| record.data.clone()).collect();
                if data.is_empty() {
                    return Found::Nothing(format!("{name} has no {record_type} records"));
                }
                Found::Records(data, Duration::from_secs(ttl.into()))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => nothing(name, record_type, &none),
            Err(error) => Found::Failed(format!("{name}: {error}")),
        }
    }
}

impl<T> Found<T> {
    fn map<U>(self, convert: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Records(records, ttl) => Found::Records(convert(records), ttl),
            Self::Nothing(reason) => Found::Nothing(reason),
            Self::Failed(error) => Found::Failed(error),
        }
    }
}

fn nothing<T>(name: &Name, record_type: RecordType, none: &NoRecords) -> Found<T> {
    match none.response_code {
        ResponseCode::NXDomain => Found::Nothing(format!("{name} does not exist")),
        // RFC 2308, 2.2: name servers without an SOA are a referral, which says nothing.
        ResponseCode::NoError if none.ns.is_some() && none.soa.is_none() => {
            Found::Failed(format!("{name}: the server refers to others"))
        }
        ResponseCode::NoError => Found::Nothing(format!("{name} has no {record_type} records")),
        code => Found::Failed(format!("{name}: {code}")),
    }
}

fn unknown(error: &str) -> Families {
    [Found::Failed(error.to_owned()), Found::Failed(error.to_owned())]
}

fn modified(path: &Path) -> Option<(SystemTime, u64)> {
    let data = path.metadata().ok()?;
    Some((data.modified().ok()?, data.len()))
}

fn system(path: &Path) -> Result<(ResolverConfig, ResolverOpts), String> {
    let read = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse_resolv_conf(read).map_err(|error| format!("{}: {error}", path.display()))
}

fn given(servers: &[SocketAddr], search: &[String]) -> Result<(ResolverConfig, ResolverOpts), String> {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    let search = search.iter().map(Name::from_str_relaxed).collect::<Result<Vec<_>, _>>();
    let search = search.map_err(|error| format!("search domain: {error}"))?;
    Ok((ResolverConfig::from_parts(None, search, servers.collect()), ResolverOpts::default()))
}
