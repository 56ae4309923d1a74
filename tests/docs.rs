//! What the documentation says is run: every configuration, every command, every path and every name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use mirrorgate::config;
use mirrorgate::mirror::outcome::Outcome;

const README: &str = include_str!("../README.md");
const ARCHITECTURE: &str = include_str!("../ARCHITECTURE.md");

#[test]
fn every_configuration_of_the_readme_loads_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&config::schema()).unwrap();
    let blocks = blocks(README, "yaml");
    assert!(blocks.len() >= 4, "{} found", blocks.len());
    for (before, text) in blocks {
        if before.trim_end().ends_with("<!-- endpoints -->") {
            let endpoints = config::parse_endpoints(text, Path::new("")).unwrap();
            assert!(!endpoints.is_empty());
            continue;
        }
        let configuration = config::parse(text, Path::new("")).unwrap_or_else(|errors| {
            panic!("{errors}\n{text}");
        });
        assert_eq!(configuration.warnings, [], "{text}");
        let errors: Vec<_> = validator.iter_errors(&configuration.document).collect();
        assert!(errors.is_empty(), "{errors:?}\n{text}");
    }
}

#[test]
fn the_errors_that_the_readme_shows_are_told() {
    let (_, rest) = README.split_once("<!-- check\n").unwrap();
    let (wrong, rest) = rest.split_once("\n-->\n").unwrap();
    let (_, shown) = blocks(rest, "text").into_iter().next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), format!("{wrong}\n")).unwrap();
    let output = command().args(["check", "bad.yaml"]).current_dir(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap().trim_end(), shown.trim_end());
}

/// Commands with fixed ports are run with free ones.
#[test]
fn every_command_of_the_readme_works() {
    let mut gateway = None;
    let mut seen = 0;
    for line in blocks(README, "console").into_iter().flat_map(|(_, text)| text.lines()) {
        seen += 1;
        let words: Vec<&str> = line.strip_prefix("$ ").expect("a command").split(' ').collect();
        match words.as_slice() {
            ["cargo", "test"] | ["cargo", "build", "--release"] => {}
            ["cargo", "run", "--release", "--", "demo"] => {
                let shown = succeeds(command().args(["demo", "--seconds", "3"]));
                assert!(shown.contains("  all of it held"), "{shown}");
            }
            ["target/release/mirrorgate", "run", arguments @ ..] => {
                gateway = Some(Gateway::start(arguments));
            }
            // Its port and its names are for a cluster; that it loads is what `check` says.
            ["mirrorgate", "run", "--config", file] | ["mirrorgate", "check", file] => {
                assert!(succeeds(command().args(["check", file])).contains(": ok, "));
            }
            ["curl", url, ..] => {
                let gateway = gateway.as_ref().expect("a gateway was started before");
                let (port, path) =
                    url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once('/')).unwrap();
                match port {
                    "9901" => assert_eq!(get(&gateway.admin, path).0, 200, "{line}"),
                    "8080" => assert_eq!(get(&gateway.listener, path).0, 200, "{line}"),
                    _ => panic!("nothing in the README listens there: {line}"),
                }
            }
            _ => panic!("nobody checks that this works: {line}"),
        }
    }
    assert!(seen >= 8, "{seen} found");
    gateway.unwrap().stop();
}

#[test]
fn every_path_metric_and_outcome_of_the_readme_exists() {
    let gateway = Gateway::start(&[
        "--listen",
        ":8080",
        "--backend",
        "http://127.0.0.1:1",
        "--mirror",
        "http://127.0.0.1:2",
    ]);
    let paths: BTreeSet<&str> =
        README.split(['`', ' ', ',']).filter_map(|word| word.strip_prefix('/')).collect();
    for path in ["live", "ready", "metrics", "backends", "routes", "config"] {
        assert!(paths.contains(path), "/{path} is not in the README");
        assert_eq!(get(&gateway.admin, path).0, 200, "/{path}");
    }
    // One request, so that what appears with the first is there.
    get(&gateway.listener, "");
    let (_, metrics) = get(&gateway.admin, "metrics");
    let names = names(README, "mirrorgate_");
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} is not in /metrics:\n{metrics}");
    }
    gateway.stop();

    let known: BTreeSet<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    let told: BTreeSet<String> =
        ["failed_", "cut_", "skipped_"].iter().flat_map(|class| self::names(README, class)).collect();
    assert!(told.len() >= 15, "{told:?}");
    for outcome in told {
        assert!(known.contains(&*outcome), "{outcome} is no outcome");
    }
}

#[test]
fn every_file_of_the_tour_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named: Vec<&str> = ARCHITECTURE
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| text.ends_with(".rs") || text.ends_with('/'))
        .collect();
    assert!(named.len() >= 30, "{named:?}");
    for name in named {
        let found = ["", "src", "src/upstream"].iter().any(|folder| root.join(folder).join(name).exists());
        assert!(found, "{name} does not exist");
    }
    let modules = std::fs::read_dir(root.join("src")).unwrap().map(|entry| entry.unwrap().file_name());
    for module in modules.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".rs")) {
        assert!(ARCHITECTURE.contains(&format!("`{module}`")), "{module} is not in the tour");
    }
}

/// A gateway as a process.
struct Gateway {
    child: Child,
    listener: String,
    admin: String,
}

impl Gateway {
    /// With free ports, and services of ours behind it, instead of those in `arguments`.
    fn start(arguments: &[&str]) -> Self {
        let service = service();
        let arguments = arguments.iter().map(|word| match word {
            listen if listen.ends_with(":8080") => "127.0.0.1:0",
            url if url.starts_with("http://") => &service,
            word => word,
        });
        let mut command = command();
        command.arg("run").args(arguments).args(["--admin", "127.0.0.1:0"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = |what: &str| {
            let line = log.by_ref().map(Result::unwrap).find(|line| line.contains(what));
            line.unwrap().rsplit_once("http://").unwrap().1.to_owned()
        };
        let listener = address("listening on http://");
        let admin = address("admin API on http://");
        // Nobody reads the rest, and nothing may block on it: there is little of it.
        std::thread::spawn(move || log.count());
        // It says where it listens a moment before it is ready.
        let ready = (0..1000).any(|_| {
            let is_ready = get(&admin, "ready").0 == 200;
            if !is_ready {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            is_ready
        });
        assert!(ready, "never ready");
        Self { child, listener, admin }
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Has ended already, unless a test failed.
        let _ = self.child.kill();
    }
}

/// The URL of a service that answers 200, on a thread that ends with the process.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    url
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorgate"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The fenced blocks of a language, each with the text before it.
fn blocks<'text>(text: &'text str, language: &str) -> Vec<(&'text str, &'text str)> {
    let opening = format!("```{language}\n");
    let begins = text.match_indices(&opening);
    begins
        .map(|(at, opening)| {
            let (before, rest) = text.split_at(at);
            (before, rest[opening.len()..].split_once("```").unwrap().0)
        })
        .collect()
}

/// The words of `text` that begin with `prefix`.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let part = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    text.split(|letter| !part(letter)).filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}
