//! What `mirror` means: the internal location that it names becomes a mirror, and `split_clients` in
//! front of it a share.

use serde_json::{Map, Value, json};

use super::syntax::Directive;
use super::{Work, inherited};

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
    pub(super) fn mirrors(&mut self, server: &Directive, location: &Directive) -> Vec<Value> {
        let mut mirrors = Vec::new();
        let heads_only = inherited(server, location, "mirror_request_body")
            .last()
            .is_some_and(|one| one.argument(0) == "off");
        let named = inherited(server, location, "mirror");
        for mirror in named.into_iter().filter(|mirror| mirror.argument(0) != "off") {
            let uri = mirror.argument(0);
            let target = server.all("location").find(|other| match (other.argument(0), other.argument(1)) {
                ("=", path) => path == uri,
                (path, "") => path == uri,
                _ => false,
            });
            let Some(target) = target else {
                self.note(
                    mirror.line,
                    format!("mirror {uri} is not carried over: it is no location of this server"),
                );
                continue;
            };
            if let Some(mut plan) = self.mirror(target) {
                if heads_only {
                    let message =
                        "mirror_request_body off: of bodies without a declared length copies have all";
                    self.note(mirror.line, message);
                    plan.insert("max_body".to_owned(), "1B".into());
                    plan.insert("on_oversize".to_owned(), "headers_only".into());
                }
                mirrors.push(plan.into());
            }
        }
        mirrors
    }

    fn mirror(&mut self, target: &Directive) -> Option<Map<String, Value>> {
        let share = self.share(target);
        let Some(pass) = target.last("proxy_pass") else {
            self.note(target.line, "a mirror without proxy_pass is not carried over");
            return None;
        };
        // `proxy_pass http://$next…`, where `split_clients` says which one that is.
        let mut url = pass.argument(0).to_owned();
        if let Some((variable, share)) = &share {
            url = url.replacen(variable, share.value, 1);
        }
        let (path, url) = match url.strip_suffix("$request_uri").map(|url| url.trim_end_matches('/')) {
            Some(url) => ("$request_uri", url.to_owned()),
            None => ("", url),
        };
        let (backend, uri) = self.backend(pass.line, &url)?;
        if path.is_empty() || !uri.is_empty() {
            self.note(
                pass.line,
                "copies go to the path of the request, whatever stands in proxy_pass of the mirror",
            );
        }
        let mut plan = Map::new();
        plan.insert("backend".to_owned(), backend.into());
        if let Some((_, share)) = &share {
            plan.insert("percent".to_owned(), number(share.percent));
            match (sample_by(share.key), share.key) {
                (Some(key), _) => drop(plan.insert("sample_by".to_owned(), key)),
                // Another for each request, as a draw is.
                (None, "$request_id" | "${request_id}") => {}
                (None, key) => {
                    self.note(target.line, format!("split_clients by {key} becomes a draw for each request"));
                }
            }
        }
        self.edits(target, &url, &mut plan);
        Some(plan)
    }

    /// What the mirror's location sets in the head of copies.
    fn edits(&mut self, target: &Directive, url: &str, plan: &mut Map<String, Value>) {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or_default();
        // Where nothing is said nginx sends the name that stands in proxy_pass.
        let mut host = Some(authority.to_owned());
        let mut set = Map::new();
        for directive in &target.block {
            let (name, value) = (directive.argument(0).to_ascii_lowercase(), directive.argument(1));
            match directive.name() {
                "proxy_set_header" if name == "host" => {
                    host = (!matches!(value, "$host" | "$http_host")).then(|| value.to_owned());
                }
                "proxy_set_header" if name == "content-length" && value.is_empty() => {}
                "proxy_set_header" if value.contains('$') => {
                    self.note(
                        directive.line,
                        format!("{name}: {value} of copies is not carried over: it is a variable"),
                    );
                }
                "proxy_set_header" => drop(set.insert(name, value.into())),
                "proxy_pass"
                | "internal"
                | "if"
                | "access_log"
                | "proxy_pass_request_body"
                | "proxy_http_version" => {}
                other => self.note(directive.line, format!("{other} of a mirror is not carried over")),
            }
        }
        match host {
            Some(host) if host.contains('$') => {
                self.note(
                    target.line,
                    format!("the Host {host} of copies is not carried over: it is a variable"),
                );
            }
            Some(host) => {
                let bare = match host.rsplit_once(':') {
                    Some((bare, port)) if port.parse::<u16>().is_ok() => bare,
                    _ => host.as_str(),
                };
                if bare != host {
                    self.note(
                        target.line,
                        format!("the Host of copies is {bare}, without the port of {host}"),
                    );
                }
                plan.insert("host".to_owned(), bare.into());
            }
            None => {}
        }
        if !set.is_empty() {
            plan.insert("headers".to_owned(), json!({ "set": set }));
        }
    }

    /// The share of `split_clients` that `target` copies, with the variable that it goes by.
    fn share(&mut self, target: &Directive) -> Option<(String, Share<'a>)> {
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
            let mut percent = 0.0;
            let mut rest = 100.0;
            let mut value = "";
            for part in &split.block {
                let own = part.argument(0);
                let share = part.name().strip_suffix('%').and_then(|share| share.parse::<f64>().ok());
                let share = share.unwrap_or(rest);
                rest -= share;
                if !own.is_empty() && !skipped.iter().any(|skipped| skipped == own) {
                    percent += share;
                    value = own;
                }
            }
            return Some((variable.to_owned(), Share { percent, key: split.argument(0), value }));
        }
        for condition in target.all("if") {
            self.note(condition.line, "an if of a mirror is not carried over: all requests are copied");
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
            self.note(condition.line, "an if of a mirror is not carried over: all requests are copied");
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
