//! What stands around: directives that are inherited, those that mean nothing here, and the word about all
//! others.

use super::Work;
use super::syntax::Directive;
use crate::limits;

/// Directives that need no counterpart, for they change neither answers nor who gives them: what they ask for
/// is how things are here, or it is how nginx itself runs, logs and buffers, or how it makes files into answers;
/// what uses a definition is told where it does.
const NEEDLESS: &[&str] = &[
    "access_log",
    "daemon",
    "default_type",
    "error_log",
    "events",
    "geo",
    "internal",
    "keepalive",
    "keepalive_requests",
    "keepalive_timeout",
    "limit_conn_zone",
    "limit_req_zone",
    "load_module",
    "log_format",
    "log_not_found",
    "map",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "master_process",
    "pid",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_cache_path",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_request_buffering",
    "proxy_ssl_server_name",
    "resolver",
    "resolver_timeout",
    "sendfile",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "user",
    "worker_connections",
    "worker_processes",
    "worker_rlimit_nofile",
];

/// Directives that are read elsewhere.
const READ: &[&str] = &[
    "http",
    "listen",
    "location",
    "mirror",
    "mirror_request_body",
    "proxy_pass",
    "proxy_set_header",
    "server",
    "server_name",
    "split_clients",
    "ssl_certificate",
    "ssl_certificate_key",
    "upstream",
];

/// Fields of a head that are set here anyhow, or have to do with the connection, in small letters.
pub(super) const KNOWN_FIELDS: &[&str] = &[
    "connection",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

impl Work<'_> {
    /// Names what stands in `scope` and has no counterpart.
    pub(super) fn not_carried(&mut self, scope: &Directive) {
        for directive in &scope.block {
            let name = directive.name();
            if scope.name() == "location" && name == "location" {
                self.note(directive.at, "a location within a location is not carried over");
            } else if !is_needless(directive) && !READ.contains(&name) {
                let instead = match name {
                    "gzip" => ": answers go through as they are, compressed or not",
                    "proxy_buffer_size" => ": heads of answers are never larger than 64k here",
                    "proxy_http_version" => ": write a protocol for the backend by hand",
                    "server_tokens" => ": the Server that the backend names goes through",
                    _ => "",
                };
                self.note(directive.at, format!("{name} is not carried over{instead}"));
            }
        }
    }
}

/// Whether nothing is missing without the directive; of some that goes by the value.
pub(super) fn is_needless(directive: &Directive) -> bool {
    let value = directive.argument(0);
    match directive.name() {
        "charset" | "gzip" => value == "off",
        // What does not fit is answered 502, there as here.
        "proxy_buffer_size" => bytes(value).is_some_and(|bytes| bytes <= limits::HEAD_BYTES),
        "proxy_http_version" => matches!(value, "1.0" | "1.1"),
        name => NEEDLESS.contains(&name),
    }
}

/// A size as nginx writes it.
fn bytes(size: &str) -> Option<usize> {
    let (number, unit) = size.split_at(size.trim_end_matches(|end: char| !end.is_ascii_digit()).len());
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

/// The directives called `name` of the first of `scopes`, from the inside to the outside, that has any, as
/// nginx inherits them.
pub(super) fn inherited<'d>(scopes: [&'d Directive; 3], name: &str) -> Vec<&'d Directive> {
    let called = |scope: &'d Directive| -> Vec<_> {
        scope.block.iter().filter(|directive| directive.name() == name).collect()
    };
    scopes.into_iter().map(called).find(|found| !found.is_empty()).unwrap_or_default()
}
