//! A small API server: lists, watches in chunks, status patches with versions, Leases, and whatever
//! goes wrong on the way.

use std::collections::{BTreeMap, HashSet};
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
    /// Kind and event; `None` closes every watch.
    events: broadcast::Sender<Option<(String, Value)>>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By kind (plural), namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    down: bool,
    forbidden: HashSet<String>,
    /// Kinds whose next watch is answered 410.
    forgotten: HashSet<String>,
    conflict: bool,
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
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn put(&self, kind: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let id = (kind.to_owned(), text("namespace"), text("name"));
        let known = state.objects.insert(id, object.clone()).is_some();
        let event = json!({ "type": if known { "MODIFIED" } else { "ADDED" }, "object": object });
        if !state.down && !state.forgotten.contains(kind) {
            let _nobody = self.events.send(Some((kind.to_owned(), event)));
        }
    }

    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        let object = state.objects.remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).unwrap();
        let _nobody =
            self.events.send(Some((kind.to_owned(), json!({ "type": "DELETED", "object": object }))));
    }

    /// Closes all watches and answers nothing, or answers again.
    pub(super) fn set_down(&self, down: bool) {
        self.state().down = down;
        if down {
            let _nobody = self.events.send(None);
        }
    }

    /// What happens in `meanwhile` is told to no watch; those that go on from before get 410.
    pub(super) fn forget_history(&self, kind: &str, meanwhile: impl FnOnce()) {
        self.state().forgotten.insert(kind.to_owned());
        meanwhile();
        let gone = json!({ "type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old",
        } });
        let _nobody = self.events.send(Some((kind.to_owned(), gone)));
        self.state().forgotten.remove(kind);
    }

    pub(super) fn forbid(&self, kind: &str) {
        self.state().forbidden.insert(kind.to_owned());
    }

    /// The next status is refused as if its object had changed meanwhile.
    pub(super) fn conflict_once(&self) {
        self.state().conflict = true;
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
            let answered = match query.contains("watch=true") {
                true => self.watch(&mut stream, kind_of(path)).await,
                false => {
                    let (status, value) = self.answer(&method, path, &body);
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

    async fn watch(&self, stream: &mut TcpStream, kind: &str) -> std::io::Result<()> {
        let mut events = self.events.subscribe();
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            )
            .await?;
        // A bookmark in two pieces, as a slow network has it.
        let bookmark = json!({ "type": "BOOKMARK", "object": {
            "kind": "x", "apiVersion": "v1", "metadata": { "resourceVersion": self.state().version.to_string(), "annotations": {} },
        } });
        let line = format!("{bookmark}\n");
        for piece in [&line[..10], &line[10..]] {
            chunk(stream, piece).await?;
        }
        loop {
            match events.recv().await {
                Ok(Some((of, event))) if of == kind => chunk(stream, &format!("{event}\n")).await?,
                Ok(Some(_)) => {}
                // The connection just ends, in the middle of the response.
                Ok(None) | Err(_) => return Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let parts: Vec<&str> = path.split('/').collect();
        let mut state = self.state();
        if path.contains("/leases") {
            return lease(&mut state, method, &parts, body);
        }
        if let ("PATCH", Some("status")) = (method, parts.last().copied()) {
            let kind = parts[parts.len() - 3].to_owned();
            let namespace =
                parts.iter().position(|part| *part == "namespaces").map_or("", |at| parts[at + 1]);
            let name = parts[parts.len() - 2];
            let id = (kind.clone(), namespace.to_owned(), name.to_owned());
            let Some(object) = state.objects.get(&id).cloned() else { return (404, failure(404)) };
            let stale = body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"];
            if stale || std::mem::take(&mut state.conflict) {
                drop(state);
                // Whatever changed it is seen on the watch.
                self.put(&kind, object);
                return (409, failure(409));
            }
            let mut object = object;
            object["status"] = body["status"].clone();
            state.writes += 1;
            state.last_write = Some(Instant::now());
            drop(state);
            self.put(&kind, object.clone());
            return (200, object);
        }
        let kind = kind_of(path);
        if state.forbidden.contains(kind) {
            return (403, failure(403));
        }
        let items: Vec<_> = state
            .objects
            .iter()
            .filter(|((of, ..), _)| of == kind)
            .map(|(_, object)| object.clone())
            .collect();
        let version = state.version.to_string();
        (
            200,
            json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }
}

fn lease(state: &mut State, method: &str, parts: &[&str], body: &Value) -> (u16, Value) {
    let name = body["metadata"]["name"].as_str().unwrap_or(parts[parts.len() - 1]);
    let id = ("leases".to_owned(), String::new(), name.to_owned());
    if method == "GET" {
        return state.objects.get(&id).map_or((404, failure(404)), |lease| (200, lease.clone()));
    }
    state.version += 1;
    let mut lease = body.clone();
    lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
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
        _ => "Conflict",
    };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no" })
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
