//! What `mirror` means: the internal location that it names becomes a mirror, and `split_clients` in
//! front of it a share.

use serde_json::{Map, Value, json};

use super::Work;
use super::scopes::{KNOWN_FIELDS, inherited, is_needless};
use super::syntax::Directive;

/// A share of the clients, and by what they are told apart.
struct Share<'a> {
    /// In percent.
    percent: f64,
    key: &'a str,
    /// What the variable is for those that are copied.
    value: &'a str,
}

impl<'a> Work<'a> {
    /// The mirrors of `location`.
    pub(super) fn mirrors(&mut self, server: &'a Directive, location: &'a Directive) -> Vec<Value> {
        let mut mirrors = Vec::new();
        let is_off =
            |found: Vec<&Directive>| found.last().is_some_and(|directive| directive.argument(0) == "off");
        let bodyless = is_off(inherited([location, server, self.http], "mirror_request_body"));
        let named = inherited([location, server, self.http], "mirror");
        for mirror in named.into_iter().filter(|mirror| mirror.argument(0) != "off") {
            let uri = mirror.argument(0);
            let target = server.all("location").find(|other| match (other.argument(0), other.argument(1)) {
                ("=", path) => path == uri,
                (path, "") => path == uri,
                _ => false,
            });
            let Some(target) = target else {
                self.note(
                    mirror.at,
                    format!("mirror {uri} is not carried over: it is no location of this server"),
                );
                continue;
            };
            let heads_only =
                bodyless || is_off(inherited([target, server, self.http], "proxy_pass_request_body"));
            for mut plan in self.mirror(server, target) {
                if heads_only {
                    let message =
                        "copies have no bodies, but of bodies without a declared length they have all";
                    self.note(mirror.at, message);
                    plan.insert("max_body".to_owned(), "1B".into());
                    plan.insert("on_oversize".to_owned(), "headers_only".into());
                }
                mirrors.push(plan.into());
            }
        }
        mirrors
    }

    /// One for each whom the location `target` passes to.
    fn mirror(&mut self, server: &'a Directive, target: &'a Directive) -> Vec<Map<String, Value>> {
        let Some(pass) = target.last("proxy_pass") else {
            self.note(target.at, "a mirror without proxy_pass is not carried over");
            return Vec::new();
        };
        match self.shares(target) {
            None => Vec::from_iter(self.copies(server, target, pass, pass.argument(0), None)),
            Some((variable, shares)) => {
                if shares.len() > 1 {
                    let message =
                        format!("{variable} gives clients to one of several; here each has its share of all");
                    self.note(target.at, message);
                }
                let urls = shares.iter().map(|share| pass.argument(0).replacen(&variable, share.value, 1));
                let urls: Vec<_> = urls.collect();
                let pairs = shares.iter().zip(&urls);
                pairs.filter_map(|(share, url)| self.copies(server, target, pass, url, Some(share))).collect()
            }
        }
    }

    fn copies(
        &mut self,
        server: &'a Directive,
        target: &'a Directive,
        pass: &'a Directive,
        url: &str,
        share: Option<&Share<'a>>,
    ) -> Option<Map<String, Value>> {
        let (path, url) = match url.strip_suffix("$request_uri").map(|url| url.trim_end_matches('/')) {
            Some(url) => ("$request_uri", url),
            None => ("", url),
        };
        let (backend, uri) = self.backend(pass.at, url)?;
        if path.is_empty() || !uri.is_empty() {
            self.note(
                pass.at,
                "copies go to the path of the request, whatever stands in proxy_pass of the mirror",
            );
        }
        let mut plan = Map::new();
        plan.insert("backend".to_owned(), backend.into());
        if let Some(share) = share {
            plan.insert("percent".to_owned(), number(share.percent));
            match (sample_by(share.key), share.key) {
                (Some(key), _) => drop(plan.insert("sample_by".to_owned(), key)),
                // Another for each request, as a draw is.
                (None, "$request_id" | "${request_id}") => {}
                (None, key) => {
                    self.note(target.at, format!("split_clients by {key} becomes a draw for each request"));
                }
            }
        }
        self.edits(server, target, url, &mut plan);
        Some(plan)
    }

    /// What is set in the head of copies.
    fn edits(
        &mut self,
        server: &'a Directive,
        target: &'a Directive,
        url: &str,
        plan: &mut Map<String, Value>,
    ) {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or_default();
        // Where nothing is said nginx sends the name that stands in proxy_pass.
        let mut host = Some(authority.to_owned());
        let mut set = Map::new();
        for directive in inherited([target, server, self.http], "proxy_set_header") {
            let (name, value) = (directive.argument(0).to_ascii_lowercase(), directive.argument(1));
            match name.as_str() {
                "host" => host = (!matches!(value, "$host" | "$http_host")).then(|| value.to_owned()),
                "content-length" if value.is_empty() => {}
                known if KNOWN_FIELDS.contains(&known) => {}
                _ if value.contains('$') => {
                    let message = format!("{name}: {value} of copies is not carried over: it is a variable");
                    self.note(directive.at, message);
                }
                _ => drop(set.insert(name, value.into())),
            }
        }
        for directive in &target.block {
            match directive.name() {
                "proxy_set_header" | "proxy_pass" | "internal" | "if" | "access_log" => {}
                "proxy_http_version" if is_needless(directive) => {}
                // Read with `mirror_request_body`, which means the same.
                "proxy_pass_request_body" => {}
                other => self.note(directive.at, format!("{other} of a mirror is not carried over")),
            }
        }
        match host {
            Some(host) if host.contains('$') => {
                self.note(
                    target.at,
                    format!("the Host {host} of copies is not carried over: it is a variable"),
                );
            }
            Some(host) => {
                let bare = match host.rsplit_once(':') {
                    Some((bare, port)) if port.parse::<u16>().is_ok() => bare,
                    _ => host.as_str(),
                };
                if bare != host {
                    self.note(target.at, format!("the Host of copies is {bare}, without the port of {host}"));
                }
                plan.insert("host".to_owned(), bare.into());
            }
            None => {}
        }
        if !set.is_empty() {
            plan.insert("headers".to_owned(), json!({ "set": set }));
        }
    }

    /// The shares of `split_clients` that `target` copies, with the variable that it goes by: one for each
    /// whom it passes to.
    fn shares(&mut self, target: &'a Directive) -> Option<(String, Vec<Share<'a>>)> {
        let http: &'a Directive = self.http;
        for split in http.all("split_clients") {
            let variable = split.argument(1);
            let condition = target.all("if").find(|one| one.words.iter().any(|word| word.contains(variable)));
            let named = target.last("proxy_pass").is_some_and(|pass| pass.argument(0).contains(variable));
            if condition.is_none() && !named {
                continue;
            }
            // Either it returns for a value, or an empty name cannot be passed to.
            let skipped = match condition {
                None => Vec::new(),
                Some(condition) => match self.skipped(condition, variable) {
                    Some(value) => vec![value],
                    None => return None,
                },
            };
            let mut rest = 100.0;
            let mut shares: Vec<Share<'a>> = Vec::new();
            for part in &split.block {
                let value = part.argument(0);
                let percent = part.name().strip_suffix('%').and_then(|share| share.parse::<f64>().ok());
                let percent = percent.unwrap_or(rest);
                rest -= percent;
                if value.is_empty() || skipped.iter().any(|skipped| skipped == value) {
                    continue;
                }
                match shares.iter_mut().find(|known| !named || known.value == value) {
                    Some(known) => known.percent += percent,
                    None => shares.push(Share { percent, key: split.argument(0), value }),
                }
            }
            return Some((variable.to_owned(), shares));
        }
        for condition in target.all("if") {
            self.note(condition.at, "an if of a mirror is not carried over: all requests are copied");
        }
        None
    }

    /// The value of `variable` for which `if ($variable = value) { return …; }` makes no copy.
    fn skipped(&mut self, condition: &Directive, variable: &str) -> Option<String> {
        let words: Vec<&str> =
            condition.words.iter().skip(1).map(|word| word.trim_matches(['(', ')'])).collect();
        let returns = condition.block.iter().any(|one| one.name() == "return");
        let value = match words.as_slice() {
            [name, "=", value] if *name == variable => Some((*value).to_owned()),
            [name, "="] | [name, "=", "", ..] if *name == variable => Some(String::new()),
            _ => None,
        };
        if value.is_none() || !returns {
            self.note(condition.at, "an if of a mirror is not carried over: all requests are copied");
            return None;
        }
        value
    }
}

/// `sample_by` for a variable, if there is such a thing.
fn sample_by(variable: &str) -> Option<Value> {
    let variable = variable.trim_start_matches('$').trim_matches(['{', '}']);
    let name = |prefix| variable.strip_prefix(prefix);
    match variable {
        "remote_addr" | "binary_remote_addr" => Some("client".into()),
        "uri" | "document_uri" => Some("path".into()),
        _ => name("http_")
            .map(|header: &str| json!({ "header": header.replace('_', "-") }))
            .or_else(|| name("cookie_").map(|cookie| json!({ "cookie": cookie })))
            .or_else(|| name("arg_").map(|parameter| json!({ "query": parameter }))),
    }
}

/// A percentage as people write it.
fn number(percent: f64) -> Value {
    if percent.fract() == 0.0 { json!(percent as u64) } else { json!(percent) }
}
