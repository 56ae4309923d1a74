//! nginx configurations whose `mirror` has the common shape: a location of its own, internal, with
//! `proxy_pass` to another server, perhaps behind `split_clients`.

mod backends;
mod mirrors;
mod syntax;

use serde_json::{Map, Value, json};

use self::backends::Backends;
use self::syntax::Directive;
use super::{Import, yaml};

/// Directives that need no counterpart: what they ask for is how things are here, or nobody's concern.
const NEEDLESS: &[&str] = &[
    "access_log",
    "client_max_body_size",
    "default_type",
    "error_log",
    "events",
    "gzip",
    "include",
    "internal",
    "keepalive",
    "keepalive_timeout",
    "location",
    "log_format",
    "map_hash_bucket_size",
    "mirror",
    "mirror_request_body",
    "pid",
    "proxy_buffering",
    "proxy_http_version",
    "proxy_pass",
    "proxy_pass_request_body",
    "proxy_request_buffering",
    "proxy_set_header",
    "proxy_ssl_server_name",
    "resolver",
    "sendfile",
    "server_name",
    "server_names_hash_bucket_size",
    "server_tokens",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_max_size",
    "user",
    "worker_connections",
    "worker_processes",
    "zone",
    "listen",
    "ssl_certificate",
    "ssl_certificate_key",
];

/// The text of the file called `file` as a configuration of ours.
pub(super) fn import(file: &str, text: &str) -> Result<Import, String> {
    let top = syntax::parse(text)?;
    // A file of conf.d has no `http` around it.
    let mut scope: Vec<Directive> = Vec::new();
    for directive in top {
        match directive.name() {
            "http" => scope.extend(directive.block),
            _ => scope.push(directive),
        }
    }
    let http = Directive { line: 1, words: vec!["http".to_owned()], block: scope };
    let mut work = Work {
        file,
        http: &http,
        import: Import::default(),
        backends: Backends::default(),
        listeners: Map::new(),
        routes: Vec::new(),
    };
    for server in http.all("server") {
        work.server(server);
    }
    if work.routes.is_empty() {
        return Err("there is no server with a location that has a proxy_pass".to_owned());
    }
    Ok(work.finish())
}

struct Work<'a> {
    file: &'a str,
    http: &'a Directive,
    import: Import,
    backends: Backends,
    /// By address.
    listeners: Map<String, Value>,
    routes: Vec<Value>,
}

impl Work<'_> {
    fn note(&mut self, line: usize, message: impl Into<String>) {
        self.import.note(format!("{}:{line}", self.file), message);
    }

    fn server(&mut self, server: &Directive) {
        let addresses = self.listen(server);
        let mut hosts = Vec::new();
        for name in server.all("server_name").flat_map(|names| names.words.iter().skip(1)) {
            match name.as_str() {
                "_" | "" => {}
                name if name.starts_with('~') || name.ends_with(".*") => {
                    self.note(server.line, format!("the server_name {name} is not carried over"));
                }
                name => match name.strip_prefix('.') {
                    Some(domain) => hosts.extend([domain.to_owned(), format!("*.{domain}")]),
                    None => hosts.push(name.to_owned()),
                },
            }
        }
        if !hosts.is_empty() && self.http.all("server").count() > 1 {
            self.note(
                server.line,
                "nginx gives requests for hosts of no server to the first one; here they are answered 404",
            );
        }
        for location in server.all("location") {
            if location.all("internal").next().is_none() && location.all("proxy_pass").next().is_some() {
                self.location(server, location, &hosts, &addresses);
            } else if location.all("internal").next().is_none() {
                self.note(
                    location.line,
                    format!("{} has no proxy_pass and is not carried over", location.words.join(" ")),
                );
            }
        }
    }

    /// Adds what a server listens to; the addresses.
    fn listen(&mut self, server: &Directive) -> Vec<String> {
        let mut addresses = Vec::new();
        for listen in server.all("listen") {
            let address = match listen.argument(0) {
                unix if unix.starts_with("unix:") => {
                    self.note(listen.line, "a Unix socket to listen to is not carried over");
                    continue;
                }
                port if port.parse::<u16>().is_ok() => format!("0.0.0.0:{port}"),
                star if star.starts_with("*:") => star.replacen('*', "0.0.0.0", 1),
                address if address.parse::<std::net::SocketAddr>().is_ok() => address.to_owned(),
                address if address.parse::<std::net::IpAddr>().is_ok() => format!("{address}:80"),
                other => {
                    self.note(listen.line, format!("listen {other} is not carried over: it is no address"));
                    continue;
                }
            };
            let listener =
                self.listeners.entry(address.clone()).or_insert_with(|| json!({ "address": address }));
            if listen.words.iter().any(|word| word == "ssl") {
                let (cert, key) = (server.last("ssl_certificate"), server.last("ssl_certificate_key"));
                if let (Some(cert), Some(key)) = (cert, key) {
                    let pair = json!({ "cert": cert.argument(0), "key": key.argument(0) });
                    match listener.pointer_mut("/tls/certificates").and_then(Value::as_array_mut) {
                        Some(all) => all.push(pair),
                        None => listener["tls"] = json!({ "certificates": [pair] }),
                    }
                }
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            self.listeners.entry("0.0.0.0:80").or_insert_with(|| json!({ "address": "0.0.0.0:80" }));
            addresses.push("0.0.0.0:80".to_owned());
        }
        addresses
    }

    fn location(&mut self, server: &Directive, location: &Directive, hosts: &[String], addresses: &[String]) {
        let line = location.line;
        let (kind, path) = match (location.argument(0), location.argument(1)) {
            ("=", path) => ("exact", path),
            ("^~", path) => ("prefix", path),
            ("~" | "~*", expression) => {
                self.note(
                    line,
                    format!("the location ~ {expression} is not carried over: write it as a regex by hand"),
                );
                return;
            }
            (path, "") if path.starts_with('/') => ("prefix", path),
            _ => {
                self.note(line, format!("{} is not carried over", location.words.join(" ")));
                return;
            }
        };
        if kind == "prefix" && !path.ends_with('/') {
            self.note(
                line,
                format!("{path} takes whole segments here: {path}/x, and not {path}x as in nginx"),
            );
        }
        for other in &location.block {
            if !NEEDLESS.contains(&other.name()) {
                self.note(other.line, format!("{} is not carried over", other.name()));
            }
        }
        let pass = location.last("proxy_pass").map(|pass| pass.argument(0).to_owned()).unwrap_or_default();
        let Some((backend, uri)) = self.backend(line, &pass) else { return };
        let mut route = json!({ "name": format!("route-{}", self.routes.len() + 1) });
        if !hosts.is_empty() {
            route["hosts"] = json!(hosts);
        }
        route["listeners"] = json!(addresses);
        route["matches"] = json!([{ "path": { kind: path } }]);
        route["backend"] = backend.into();
        if !uri.is_empty() && uri != path {
            route["filters"] = match kind {
                "exact" => json!({ "path": { "full": uri } }),
                _ => json!({ "path": { "prefix": uri } }),
            };
        }
        self.headers(server, location);
        let mirrors = self.mirrors(server, location);
        if !mirrors.is_empty() {
            route["mirrors"] = mirrors.into();
        }
        self.routes.push(route);
    }

    /// What nginx sets in the head towards the primary.
    fn headers(&mut self, server: &Directive, location: &Directive) {
        let set = inherited(server, location, "proxy_set_header");
        let host =
            set.iter().find(|one| one.argument(0).eq_ignore_ascii_case("host")).map(|one| one.argument(1));
        if !host.is_some_and(|host| matches!(host, "$host" | "$http_host")) {
            self.note(location.line, "the client's Host goes through here; nginx sends another one");
        }
        for one in set {
            let known = [
                "host",
                "connection",
                "upgrade",
                "x-real-ip",
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "x-request-id",
            ];
            let name = one.argument(0).to_ascii_lowercase();
            if !known.contains(&name.as_str()) {
                self.note(
                    one.line,
                    format!(
                        "proxy_set_header {name} of the primary is not carried over: write it under filters"
                    ),
                );
            }
        }
    }

    fn finish(self) -> Import {
        let mut config = Map::new();
        config.insert("listeners".to_owned(), self.listeners.into_iter().map(|(_, one)| one).collect());
        config.insert("routes".to_owned(), self.routes.into());
        let backends = self.backends.finish();
        if !backends.is_empty() {
            config.insert("backends".to_owned(), backends.into());
        }
        let mut import = self.import;
        import.text = yaml::document(&config.into());
        import
    }
}

/// The directives called `name` of `location`, or where it has none of `server`, as nginx inherits them.
fn inherited<'d>(server: &'d Directive, location: &'d Directive, name: &'d str) -> Vec<&'d Directive> {
    let own: Vec<_> = location.all(name).collect();
    if own.is_empty() { server.all(name).collect() } else { own }
}
