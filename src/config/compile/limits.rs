//! What is taken of clients: in all, and by each route.

use std::time::Duration;

use crate::config::decode::{Located, Report, WordOr};
use crate::config::error::Problem;
use crate::config::http_values::RateWord;
use crate::config::raw;
use crate::plan::{ClientLimits, RateKey, RatePlan, RouteLimits};

pub(super) fn clients(raw: Option<&raw::Limits>, report: &mut Report<'_>) -> ClientLimits {
    let mut limits = ClientLimits::default();
    let Some(raw) = raw else { return limits };
    limits.head_bytes = raw.head.as_ref().map_or(limits.head_bytes, |size| size.value.0);
    if let Some(head) = &raw.head
        && !(MIN_HEAD..=MAX_HEAD).contains(&head.value.0)
    {
        let problem = Problem::new("a head is bounded by 1KiB to 16MiB");
        report.error(head.at, problem.hint("the default is 64KiB"));
    }
    limits.head_fields = raw.fields.as_ref().map_or(limits.head_fields, |count| count.value.0 as usize);
    limits.target_bytes = raw.target.as_ref().map_or(limits.target_bytes, |size| size.value.0);
    for (value, limit) in [
        (&raw.first_byte, &mut limits.first_byte),
        (&raw.head_time, &mut limits.head_time),
        (&raw.tls_handshake, &mut limits.tls_handshake),
        (&raw.idle, &mut limits.idle),
        (&raw.write_stall, &mut limits.write_stall),
    ] {
        let Some(value) = value else { continue };
        if value.value < crate::limits::DEADLINE_TICK {
            let problem = Problem::new(format!("shorter than {:?}", crate::limits::DEADLINE_TICK));
            report
                .error(value.at, problem.hint("deadlines of connections are looked at four times a second"));
        }
        *limit = value.value;
    }
    limits.http2_streams = raw.http2_streams.as_ref().map_or(limits.http2_streams, |count| count.value.0);
    limits.connections = raw.connections.as_ref().map_or(limits.connections, |count| count.value.0 as usize);
    limits.connections_per_address = raw.connections_per_address.as_ref().map(|count| count.value.0 as usize);
    limits.in_flight = raw.in_flight.as_ref().map(|count| count.value.0 as usize);
    limits.memory = raw.memory.as_ref().map(|size| size.value.0);
    limits.body = raw.body.as_ref().map(|size| size.value.0 as u64);
    limits
}

const MIN_HEAD: usize = 1024;
const MAX_HEAD: usize = 16 * 1024 * 1024;

pub(super) fn route(raw: &raw::RouteLimits, report: &mut Report<'_>) -> RouteLimits {
    let rate = raw.rate.as_ref().map(|rate| {
        let per = rate.per.as_ref().map_or(Duration::from_secs(1), |per| per.value);
        if let Some(given) = &rate.per
            && per.is_zero()
        {
            report.error(given.at, Problem::new("a rate in no time").hint("write 1s"));
        }
        RatePlan {
            requests: rate.requests.value.0,
            per,
            burst: rate.burst.as_ref().map_or(rate.requests.value.0, |burst| burst.value.0),
            key: match &rate.key {
                None => RateKey::All,
                Some(WordOr::Word(Located { value: RateWord::Client, .. })) => RateKey::Client,
                Some(WordOr::Mapping(raw::RateKey { header, .. })) => RateKey::Header(header.value.clone()),
            },
        }
    });
    RouteLimits { body: raw.body.as_ref().map(|size| size.value.0 as u64), rate }
}
