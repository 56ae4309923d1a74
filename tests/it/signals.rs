//! The built program as its operator meets it: a process that is sent signals.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::{Upstream, Wire, eventually, within};

/// A running process; killed in the end.
struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(configuration: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorgate"));
        command.arg("run").arg("--config").arg(configuration);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let told = log.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| told.lock().unwrap().push(line))
        });
        Self { child, log }
    }

    /// Lines of its log with `text` in them.
    fn told(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// The address behind `http://` in the first line with `text` in it.
    async fn address(&self, text: &str) -> SocketAddr {
        eventually(text, || !self.told(text).is_empty()).await;
        self.told(text).first().unwrap().rsplit_once("http://").unwrap().1.parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The status of an answer.
async fn get(address: SocketAddr, path: &str) -> u16 {
    let mut wire = Wire::connect(address).await;
    wire.send(&format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")).await;
    wire.response().await.status()
}

/// Whoever sends SIGHUP while the file is being written, as the reload command of a script does, gets all of it
/// and never the half that happens to be a configuration.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_does_not_put_half_a_file_into_use() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("gate.yaml"), folder.path().join("access.log"));
    let upstream = Upstream::saying("ok").await;
    let head = format!(
        "listeners: [127.0.0.1:0]\nadmin: 127.0.0.1:0\nworkers: 1\naccess_log: {{ file: {} }}\nroutes:\n",
        log.display()
    );
    let route = |path: &str| {
        let path = format!("matches: [{{ path: {{ exact: {path} }} }}]");
        format!("  - {{ {path}, backend: 'http://{}' }}\n", upstream.address)
    };
    fs::write(&file, format!("{head}{}", route("/one"))).unwrap();
    let process = Process::start(&file);
    let listener = process.address("listening on").await;
    let admin = process.address("admin API on").await;
    let ready = async { while get(admin, "/ready").await != 200 {} };
    within("it is ready", ready).await;

    let mut writing = File::create(&file).unwrap();
    writing.write_all(format!("{head}{}", route("/half")).as_bytes()).unwrap();
    fs::rename(&log, folder.path().join("access.log.1")).unwrap();
    process.signal("-HUP");
    // It opens its log anew, and reads the file next, if it does.
    let reopened = async {
        while !log.exists() {
            get(listener, "/one").await;
        }
    };
    within("the log is opened anew", reopened).await;
    writing.write_all(route("/whole").as_bytes()).unwrap();
    drop(writing);
    eventually("all of it", || !process.told("2 routes").is_empty()).await;
    assert_eq!(process.told("configuration reloaded").len(), 1, "{:?}", process.told(""));
    assert_eq!(process.told("unusable"), Vec::<String>::new());
}
