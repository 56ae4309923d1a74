//! A small API server: lists in pages, watches in chunks that go on from a version, status patches
//! with versions, Leases, and whatever goes wrong on the way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

/// What watches are told.
#[derive(Clone)]
enum Event {
    /// Of a kind, at a version.
    Change(u64, String, Value),
    /// Nothing happened to a kind up to now.
    Bookmark(String),
    /// The connection of a kind's watch breaks, in the middle of an event; of every kind if empty.
    Cut(String),
}

#[derive(Default)]
struct State {
    version: u64,
    /// By kind (plural), namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    down: bool,
    /// It is away, and what stands in front of it says so, to so many requests.
    unavailable: Option<usize>,
    /// Kinds that may not be read, or are not known, by the code that says so.
    forbidden: HashMap<String, u16>,
    /// Kinds that may be listed, but not watched.
    unwatchable: HashSet<String>,
    /// What happened, for watches that go on from a version.
    history: Vec<(u64, String, Value)>,
    /// Version before which it is forgotten.
    oldest: u64,
    /// Kinds whose next list fails after its first page.
    broken_lists: HashSet<String>,
    /// Method and last part of the path (two for a status), of all requests.
    requests: Vec<(String, String)>,
    conflict: bool,
    one_lease_each: bool,
    writes: usize,
    last_write: Option<Instant>,
}

impl Server {
    pub(super) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            state: Mutex::default(),
            events: broadcast::Sender::new(1024),
        });
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // As Go's servers have it: an event is not to wait for the acknowledgement of the last one.
                let _gone = stream.set_nodelay(true);
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn put(&self, kind: &str, object: Value) {
        self.store(&mut self.state(), kind, object);
    }

    /// The same for who has looked at what is there, so that nobody changes or deletes it in between.
    fn store(&self, state: &mut State, kind: &str, mut object: Value) {
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let id = (kind.to_owned(), text("namespace"), text("name"));
        let known = state.objects.insert(id, object.clone()).is_some();
        self.tell(state, kind, json!({ "type": if known { "MODIFIED" } else { "ADDED" }, "object": object }));
    }

    fn tell(&self, state: &mut State, kind: &str, event: Value) {
        state.history.push((state.version, kind.to_owned(), event.clone()));
        let _nobody = self.events.send(Event::Change(state.version, kind.to_owned(), event));
    }

    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        let mut object =
            state.objects.remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        self.tell(&mut state, kind, json!({ "type": "DELETED", "object": object }));
    }

    /// Closes all watches and answers nothing, or answers again.
    pub(super) fn set_down(&self, down: bool) {
        self.state().down = down;
        if down {
            self.cut("");
        }
    }

    /// Closes all watches and answers as a load balancer does that has nobody behind it.
    pub(super) fn go_behind_balancer(&self) {
        self.state().unavailable = Some(0);
        self.cut("");
    }

    /// Answers by itself again; how many requests got none of it.
    pub(super) fn come_back(&self) -> usize {
        self.state().unavailable.take().unwrap()
    }

    /// Breaks the connection of a kind's watch.
    pub(super) fn cut(&self, kind: &str) {
        let _nobody = self.events.send(Event::Cut(kind.to_owned()));
    }

    /// Tells watches of a kind the present version.
    pub(super) fn bookmark(&self, kind: &str) {
        let _nobody = self.events.send(Event::Bookmark(kind.to_owned()));
    }

    /// Watches that go on from before this moment get 410.
    pub(super) fn forget_history(&self) {
        let mut state = self.state();
        state.oldest = state.version;
        state.history.clear();
    }

    /// The next list of a kind is refused after its first page.
    pub(super) fn break_list(&self, kind: &str) {
        self.state().broken_lists.insert(kind.to_owned());
    }

    /// How often a kind was listed, from the start.
    pub(super) fn lists(&self, kind: &str) -> usize {
        self.requests().iter().filter(|(method, of)| method == "LIST" && of == kind).count()
    }

    /// What was asked for: a verb, as RBAC has it, and a resource.
    pub(super) fn requests(&self) -> Vec<(String, String)> {
        self.state().requests.clone()
    }

    pub(super) fn forbid(&self, kind: &str) {
        self.state().forbidden.insert(kind.to_owned(), 403);
    }

    /// It knows no such kind, until it is allowed.
    pub(super) fn undefine(&self, kind: &str) {
        self.state().forbidden.insert(kind.to_owned(), 404);
    }

    pub(super) fn forbid_watch(&self, kind: &str) {
        self.state().unwatchable.insert(kind.to_owned());
    }

    pub(super) fn allow(&self, kind: &str) {
        let mut state = self.state();
        state.forbidden.remove(kind);
        state.unwatchable.remove(kind);
    }

    /// The next status is refused as if its object had changed meanwhile.
    pub(super) fn conflict_once(&self) {
        self.state().conflict = true;
    }

    /// Whoever holds a Lease comes too late for every other one.
    pub(super) fn one_lease_each(&self, one: bool) {
        self.state().one_lease_each = one;
    }

    /// Statuses written so far.
    pub(super) fn writes(&self) -> usize {
        self.state().writes
    }

    pub(super) fn quiet_for(&self, time: Duration) -> bool {
        self.state().last_write.is_some_and(|last| last.elapsed() > time)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        while let Some((method, target, body)) = request(&mut stream).await {
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            if self.state().down {
                return;
            }
            if let Some(refused) = &mut self.state().unavailable {
                *refused += 1;
                drop(stream.try_write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"));
                continue;
            }
            let parameter = |name: &str| {
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
            };
            self.remember(&method, path, query);
            let watches = query.contains("watch=true");
            let refused = {
                let (state, kind) = (self.state(), kind_of(path));
                let unwatchable = state.unwatchable.contains(kind).then_some(403);
                state.forbidden.get(kind).copied().or(unwatchable)
            };
            let answered = match watches {
                true if let Some(code) = refused => {
                    // So late that whoever believed the list in between is seen to have done so.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    respond(&mut stream, code, &failure(code)).await
                }
                true => {
                    let from = parameter("resourceVersion").and_then(|version| version.parse().ok());
                    self.watch(&mut stream, kind_of(path), from.unwrap_or(0)).await
                }
                false => {
                    let page = (parameter("limit"), parameter("continue"));
                    let (status, value) = self.answer(&method, path, page, &body);
                    // Shown when a test fails.
                    eprintln!("{method} {target}: {status}");
                    respond(&mut stream, status, &value).await
                }
            };
            if answered.is_err() {
                return;
            }
        }
    }

    fn remember(&self, method: &str, path: &str, query: &str) {
        let mut parts = path.rsplit('/');
        let last = parts.next().unwrap().to_owned();
        let (verb, resource) = match method {
            "GET" if query.contains("watch=true") => ("WATCH", last),
            // The further pages of a list are no other list.
            "GET" if query.contains("continue=") => return,
            "GET" if path.contains("/leases/") => ("GET", "leases".to_owned()),
            "GET" => ("LIST", last),
            "POST" => ("CREATE", last),
            "PUT" => ("UPDATE", parts.next().unwrap().to_owned()),
            _ => ("PATCH", format!("{}/{last}", parts.nth(1).unwrap())),
        };
        self.state().requests.push((verb.to_owned(), resource));
    }

    async fn watch(&self, stream: &mut TcpStream, kind: &str, from: u64) -> std::io::Result<()> {
        let (mut events, past, oldest) = {
            let state = self.state();
            let past = state.history.iter().filter(|(version, of, _)| *version > from && of == kind);
            (self.events.subscribe(), past.cloned().collect::<Vec<_>>(), state.oldest)
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        if from < oldest {
            let gone = json!({ "type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old",
            } });
            line(stream, &gone).await?;
            return stream.write_all(b"0\r\n\r\n").await;
        }
        let mut told = from;
        for (version, _, event) in past {
            told = version;
            line(stream, &event).await?;
        }
        loop {
            match events.recv().await {
                Ok(Event::Change(version, of, event)) if of == kind && version > told => {
                    line(stream, &event).await?;
                }
                Ok(Event::Bookmark(of)) if of == kind => {
                    let version = self.state().version.to_string();
                    let bookmark = json!({ "type": "BOOKMARK", "object": {
                        "kind": "x", "apiVersion": "v1", "metadata": { "resourceVersion": version, "annotations": {} },
                    } });
                    line(stream, &bookmark).await?;
                }
                Ok(Event::Cut(of)) if of == kind || of.is_empty() => {
                    chunk(stream, r#"{"type":"MODIF"#).await?;
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(_) => {}
                Err(_) => return Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        (limit, from): (Option<String>, Option<String>),
        body: &Value,
    ) -> (u16, Value) {
        let parts: Vec<&str> = path.split('/').collect();
        let mut state = self.state();
        if path.contains("/leases") {
            return lease(&mut state, method, &parts, body);
        }
        if let ("PATCH", Some("status")) = (method, parts.last().copied()) {
            let kind = parts[parts.len() - 3].to_owned();
            if state.forbidden.contains_key(&format!("{kind}/status")) {
                return (403, failure(403));
            }
            let namespace =
                parts.iter().position(|part| *part == "namespaces").map_or("", |at| parts[at + 1]);
            let name = parts[parts.len() - 2];
            let id = (kind.clone(), namespace.to_owned(), name.to_owned());
            let Some(object) = state.objects.get(&id).cloned() else { return (404, failure(404)) };
            let stale = body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"];
            if stale || std::mem::take(&mut state.conflict) {
                // Whatever changed it is seen on the watch.
                self.store(&mut state, &kind, object);
                return (409, failure(409));
            }
            let mut object = object;
            object["status"] = body["status"].clone();
            state.writes += 1;
            state.last_write = Some(Instant::now());
            self.store(&mut state, &kind, object.clone());
            return (200, object);
        }
        let kind = kind_of(path);
        if let Some(code) = state.forbidden.get(kind) {
            return (*code, failure(*code));
        }
        let from: usize = from.map_or(0, |from| from.parse().unwrap());
        if from > 0 && state.broken_lists.remove(kind) {
            return (500, failure(500));
        }
        let mut items: Vec<_> = state
            .objects
            .iter()
            .filter(|((of, ..), _)| of == kind)
            .map(|(_, object)| object.clone())
            .skip(from)
            .collect();
        // Small pages while one is to fail, so that there is a second one.
        let limit = match state.broken_lists.contains(kind) {
            true => 1,
            false => limit.map_or(usize::MAX, |limit| limit.parse().unwrap()),
        };
        let more = items.len() > limit;
        items.truncate(limit);
        let mut metadata = json!({ "resourceVersion": state.version.to_string() });
        if more {
            metadata["continue"] = json!((from + limit).to_string());
        }
        (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }))
    }
}

/// A read, or a write by who read the present version.
fn lease(state: &mut State, method: &str, parts: &[&str], body: &Value) -> (u16, Value) {
    if state.forbidden.contains_key("leases") {
        return (403, failure(403));
    }
    let at = parts.iter().position(|part| *part == "namespaces").unwrap() + 1;
    let name = body["metadata"]["name"].as_str().unwrap_or(parts[parts.len() - 1]);
    let id = ("leases".to_owned(), parts[at].to_owned(), name.to_owned());
    let found = state.objects.get(&id);
    if method == "GET" {
        return found.map_or((404, failure(404)), |lease| (200, lease.clone()));
    }
    let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
    let holder = |lease: &Value| lease["spec"]["holderIdentity"].as_str().map(str::to_owned);
    let of_kind = state.objects.iter().filter(|((kind, ..), _)| kind == "leases");
    let others = of_kind.filter(|(other, lease)| **other != id && holder(lease) == holder(body)).count();
    let greedy = state.one_lease_each && holder(body).as_deref() != Some("") && others > 0;
    if greedy || found.map(version).unwrap_or_default() != version(body) {
        return (409, failure(409));
    }
    state.version += 1;
    let mut lease = body.clone();
    lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
    lease["metadata"]["namespace"] = json!(parts[at]);
    state.objects.insert(id, lease.clone());
    (200, lease)
}

fn kind_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn failure(code: u16) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        500 => "InternalError",
        _ => "Conflict",
    };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no" })
}

/// An event, in two pieces as a slow network has it.
async fn line(stream: &mut TcpStream, event: &Value) -> std::io::Result<()> {
    let line = format!("{event}\n");
    let (one, other) = line.split_at(line.len() / 2);
    chunk(stream, one).await?;
    chunk(stream, other).await
}

async fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
}

async fn respond(stream: &mut TcpStream, status: u16, value: &Value) -> std::io::Result<()> {
    let body = value.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// Method, target and JSON body; `None` at the end of the connection.
async fn request(stream: &mut TcpStream) -> Option<(String, String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some((method, target, serde_json::from_slice(&body).unwrap_or_default()))
}
