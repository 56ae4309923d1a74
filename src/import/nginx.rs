//! nginx configurations whose `mirror` has the common shape: a location of its own, internal, with
//! `proxy_pass` to another server, perhaps behind `split_clients`.

mod backends;
mod files;
mod mirrors;
mod scopes;
mod syntax;

use std::path::Path;

use serde_json::{Map, Value, json};

use self::backends::Backends;
use self::files::Files;
use self::scopes::{KNOWN_FIELDS, inherited};
use self::syntax::{Directive, Place};
use super::{Import, yaml};

/// The nginx configuration at `path`, with what it includes, as a configuration of ours. Blocks.
pub(super) fn import(path: &Path) -> Result<Import, String> {
    let Files { names, directives, problems } = Files::read(path)?;
    // A file of conf.d has no `http` around it.
    let (around, inside): (Vec<_>, Vec<_>) =
        directives.into_iter().partition(|directive| directive.name() == "http");
    let mut scope = inside;
    scope.extend(around.into_iter().flat_map(|http| http.block));
    let http = Directive { at: Place::default(), words: vec!["http".to_owned()], block: scope };
    let mut work = Work {
        files: &names,
        http: &http,
        import: Import::default(),
        backends: Backends::default(),
        listeners: Map::new(),
        routes: Vec::new(),
    };
    for (at, problem) in problems {
        work.note(at, problem);
    }
    work.not_carried(&http);
    for server in http.all("server") {
        work.server(server);
    }
    if work.routes.is_empty() {
        return Err("there is no server with a location that has a proxy_pass".to_owned());
    }
    Ok(work.finish())
}

struct Work<'a> {
    files: &'a [String],
    http: &'a Directive,
    import: Import,
    backends: Backends,
    /// By address.
    listeners: Map<String, Value>,
    routes: Vec<Value>,
}

impl<'a> Work<'a> {
    fn note(&mut self, at: Place, message: impl Into<String>) {
        let file = self.files.get(at.file).map(String::as_str).unwrap_or_default();
        self.import.note(format!("{file}:{}", at.line), message);
    }

    fn server(&mut self, server: &'a Directive) {
        self.not_carried(server);
        let Some(addresses) = self.listen(server) else {
            self.note(server.at, "the server is not carried over: it listens to nothing that could be");
            return;
        };
        let mut hosts = Vec::new();
        for name in server.all("server_name").flat_map(|names| names.words.iter().skip(1)) {
            match name.as_str() {
                "_" | "" => {}
                name if name.starts_with('~') || name.ends_with(".*") => {
                    self.note(server.at, format!("the server_name {name} is not carried over"));
                }
                name => match name.strip_prefix('.') {
                    Some(domain) => hosts.extend([domain.to_owned(), format!("*.{domain}")]),
                    None => hosts.push(name.to_owned()),
                },
            }
        }
        if !hosts.is_empty() && self.http.all("server").count() > 1 {
            self.note(
                server.at,
                "nginx gives requests for hosts of no server to the first one; here they are answered 404",
            );
        }
        for location in server.all("location") {
            if location.all("internal").next().is_none() && location.all("proxy_pass").next().is_some() {
                self.location(server, location, &hosts, &addresses);
            } else if location.all("internal").next().is_none() {
                self.note(
                    location.at,
                    format!("{} has no proxy_pass and is not carried over", location.words.join(" ")),
                );
            }
        }
    }

    /// Adds what a server listens to; the addresses, if there are any.
    fn listen(&mut self, server: &'a Directive) -> Option<Vec<String>> {
        let mut addresses = Vec::new();
        for listen in server.all("listen") {
            let address = match listen.argument(0) {
                unix if unix.starts_with("unix:") => {
                    self.note(listen.at, "a Unix socket to listen to is not carried over");
                    continue;
                }
                port if port.parse::<u16>().is_ok() => format!("0.0.0.0:{port}"),
                star if star.starts_with("*:") => star.replacen('*', "0.0.0.0", 1),
                local if local.starts_with("localhost:") => local.replacen("localhost", "127.0.0.1", 1),
                address if address.parse::<std::net::SocketAddr>().is_ok() => address.to_owned(),
                address if address.parse::<std::net::IpAddr>().is_ok() => format!("{address}:80"),
                other => {
                    self.note(listen.at, format!("listen {other} is not carried over: it is no address"));
                    continue;
                }
            };
            let has = |wanted: &str| listen.words.iter().any(|word| word == wanted);
            // These change what is served; the others that are not read say how sockets are tuned.
            for word in ["quic", "ipv6only=off"].into_iter().filter(|word| has(word)) {
                self.note(listen.at, format!("{word} of a listen is not carried over"));
            }
            let listener =
                self.listeners.entry(address.clone()).or_insert_with(|| json!({ "address": address }));
            if has("proxy_protocol") {
                listener["proxy_protocol"] = true.into();
            }
            if has("ssl") {
                let file =
                    |name| inherited([server, server, self.http], name).last().map(|one| one.argument(0));
                match (file("ssl_certificate"), file("ssl_certificate_key")) {
                    (Some(cert), Some(key)) => {
                        let pair = json!({ "cert": cert, "key": key });
                        match listener.pointer_mut("/tls/certificates").and_then(Value::as_array_mut) {
                            Some(all) => all.push(pair),
                            None => listener["tls"] = json!({ "certificates": [pair] }),
                        }
                    }
                    _ => self.note(listen.at, "ssl is not carried over: there is no certificate for it"),
                }
            }
            addresses.push(address);
        }
        if server.all("listen").next().is_none() {
            self.listeners.entry("0.0.0.0:80").or_insert_with(|| json!({ "address": "0.0.0.0:80" }));
            addresses.push("0.0.0.0:80".to_owned());
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    fn location(
        &mut self,
        server: &'a Directive,
        location: &'a Directive,
        hosts: &[String],
        addresses: &[String],
    ) {
        let at = location.at;
        let (kind, path) = match (location.argument(0), location.argument(1)) {
            ("=", path) => ("exact", path),
            ("^~", path) => ("prefix", path),
            ("~" | "~*", expression) => {
                self.note(
                    at,
                    format!("the location ~ {expression} is not carried over: write it as a regex by hand"),
                );
                return;
            }
            (path, "") if path.starts_with('/') => ("prefix", path),
            _ => {
                self.note(at, format!("{} is not carried over", location.words.join(" ")));
                return;
            }
        };
        if kind == "prefix" && !path.ends_with('/') {
            self.note(at, format!("{path} takes whole segments here: {path}/x, and not {path}x as in nginx"));
        }
        self.not_carried(location);
        let pass = location.last("proxy_pass").map(|pass| pass.argument(0).to_owned()).unwrap_or_default();
        let Some((backend, uri)) = self.backend(at, &pass) else { return };
        let mut route = json!({ "name": format!("route-{}", self.routes.len() + 1) });
        if !hosts.is_empty() {
            route["hosts"] = json!(hosts);
        }
        route["listeners"] = json!(addresses);
        route["matches"] = json!([{ "path": { kind: path } }]);
        route["backend"] = backend.into();
        match uri.trim_start_matches('/') {
            // As it came, which is how it goes on here.
            "$request_uri" => {}
            variable if variable.contains('$') => {
                self.note(at, format!("the path of proxy_pass {pass} is not carried over: it is a variable"));
            }
            _ if uri.is_empty() || uri == path => {}
            _ => {
                route["filters"] = match kind {
                    "exact" => json!({ "path": { "full": uri } }),
                    _ => json!({ "path": { "prefix": uri } }),
                };
            }
        }
        self.headers(server, location);
        let mirrors = self.mirrors(server, location);
        if !mirrors.is_empty() {
            route["mirrors"] = mirrors.into();
        }
        self.routes.push(route);
    }

    /// What nginx sets in the head towards the primary.
    fn headers(&mut self, server: &'a Directive, location: &'a Directive) {
        let set = inherited([location, server, self.http], "proxy_set_header");
        let host =
            set.iter().find(|one| one.argument(0).eq_ignore_ascii_case("host")).map(|one| one.argument(1));
        if !host.is_some_and(|host| matches!(host, "$host" | "$http_host")) {
            self.note(location.at, "the client's Host goes through here; nginx sends another one");
        }
        for one in set {
            let name = one.argument(0).to_ascii_lowercase();
            if name != "host" && !KNOWN_FIELDS.contains(&name.as_str()) {
                self.note(
                    one.at,
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
