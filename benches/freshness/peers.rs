//! The same churn at the peers, each with what it offers for it: Envoy with endpoints from a file,
//! Traefik with its file provider, nginx with a reload. What they publish, and when, cannot be seen
//! from outside; what their clients and endpoints see can.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::endpoints::Endpoint;
use crate::figures::Figures;
use crate::gateway::first;
use crate::load::Load;
use crate::{Outcome, settle};

/// Time in which the last requests at an old address come in, after the first at the new one.
const LINGER: Duration = Duration::from_millis(1500);

/// Names and contents of a peer's configuration for two endpoints and a port.
type Files = fn(&Path, [SocketAddr; 2], u16) -> Vec<(&'static str, String)>;

/// A peer, with the files that it is told by.
struct Peer {
    name: &'static str,
    program: PathBuf,
    arguments: fn(&Path) -> Vec<String>,
    /// Files, by name, for the addresses of primary and mirror and the port to listen at.
    files: Files,
    /// Which of them change with the endpoints.
    changing: &'static [&'static str],
    /// What is run after a change.
    reload: Option<fn(&Path) -> Vec<String>>,
}

/// All peers, one after the other.
pub(crate) async fn all(folder: &Path, swaps: usize) -> Vec<(&'static str, Outcome<Figures>)> {
    let mut ended = Vec::new();
    for peer in [
        Peer {
            name: "Envoy, file EDS",
            program: folder.join("envoy"),
            arguments: |at| {
                vec![
                    "-c".into(),
                    file(at, "envoy.yaml"),
                    "--concurrency".into(),
                    "2".into(),
                    "-l".into(),
                    "off".into(),
                    "--use-dynamic-base-id".into(),
                ]
            },
            files: envoy,
            changing: &["primary.yaml", "mirror.yaml"],
            reload: None,
        },
        Peer {
            name: "Traefik, file",
            program: folder.join("traefik"),
            arguments: |at| vec![format!("--configFile={}", file(at, "traefik.yaml"))],
            files: traefik,
            changing: &["routes.yaml"],
            reload: None,
        },
        Peer {
            name: "nginx, reload",
            program: "nginx".into(),
            arguments: |at| vec!["-c".into(), file(at, "nginx.conf"), "-e".into(), file(at, "error.log")],
            files: nginx,
            changing: &["nginx.conf"],
            reload: Some(|at| {
                vec![
                    "-c".into(),
                    file(at, "nginx.conf"),
                    "-e".into(),
                    file(at, "error.log"),
                    "-s".into(),
                    "reload".into(),
                ]
            }),
        },
    ] {
        ended.push((peer.name, peer.churn(swaps).await));
    }
    ended
}

impl Peer {
    async fn churn(&self, swaps: usize) -> Outcome<Figures> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let mut pairs = [
            [Endpoint::start().await?, Endpoint::start().await?],
            [Endpoint::start().await?, Endpoint::start().await?],
        ];
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        for (name, text) in (self.files)(at, pairs.each_ref().map(|pair| pair[0].address), port) {
            std::fs::write(at.join(name), text)?;
        }
        let _running = self.run((self.arguments)(at))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until_it_serves(address, &pairs[0][0]).await?;
        let load = Load::start(address);
        let mut figures = Figures::default();
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..swaps {
            pairs.iter().for_each(|[_, next]| next.reset());
            let files = (self.files)(at, pairs.each_ref().map(|pair| pair[1].address), port);
            let files: Vec<_> = files.into_iter().filter(|(name, _)| self.changing.contains(name)).collect();
            for (name, text) in &files {
                std::fs::write(at.join(format!(".{name}")), text)?;
            }
            let begun = Instant::now();
            for (name, _) in &files {
                std::fs::rename(at.join(format!(".{name}")), at.join(name))?;
            }
            if let Some(reload) = self.reload {
                let mut reloading = self.run(reload(at))?;
                tokio::task::block_in_place(|| reloading.0.wait())?;
            }
            for (times, [_, next]) in figures.first.iter_mut().zip(&pairs) {
                times.push(first(next).await?.saturating_duration_since(begun));
            }
            settle().await;
            tokio::time::sleep(LINGER).await;
            for (times, [old, _]) in figures.last.iter_mut().zip(&pairs) {
                times.extend(old.last().map(|last| last.saturating_duration_since(begun)));
            }
            pairs.iter_mut().for_each(|pair| pair.swap(0, 1));
        }
        (figures.requests, figures.failed) = load.stop().await;
        Ok(figures)
    }

    fn run(&self, arguments: Vec<String>) -> Outcome<Running> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Running(command.spawn()?))
    }
}

/// A process that ends with this value: asked first, so that its own children end, too.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already must not be asked: its number may be another's.
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..30 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until_it_serves(address: SocketAddr, primary: &Endpoint) -> Outcome<()> {
    for _ in 0..100 {
        let load = Load::start(address);
        tokio::time::sleep(Duration::from_millis(200)).await;
        load.stop().await;
        if primary.first().is_some() {
            return Ok(());
        }
    }
    Err("it does not serve".into())
}

fn file(at: &Path, name: &str) -> String {
    at.join(name).display().to_string()
}

fn envoy(at: &Path, addresses: [SocketAddr; 2], port: u16) -> Vec<(&'static str, String)> {
    let cluster = |name: &str| {
        format!(
            "  - name: {name}\n    type: EDS\n    connect_timeout: 1s\n    eds_cluster_config:\n      \
             service_name: {name}\n      eds_config:\n        resource_api_version: V3\n        \
             path_config_source: {{ path: {} }}\n",
            file(at, &format!("{name}.yaml"))
        )
    };
    let endpoints = |name: &str, address: SocketAddr| {
        format!(
            "version_info: \"{0}\"\nresources:\n- \"@type\": \
             type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  cluster_name: {name}\n  \
             endpoints:\n  - lb_endpoints:\n    - endpoint: {{ address: {{ socket_address: {{ address: \
             127.0.0.1, port_value: {0} }} }} }}\n",
            address.port()
        )
    };
    let main = format!(
        "node: {{ id: a, cluster: a }}\nstatic_resources:\n  listeners:\n  - address: {{ socket_address: {{ address: \
         127.0.0.1, port_value: {port} }} }}\n    filter_chains:\n    - filters:\n      - name: http\n        \
         typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.\
         http_connection_manager.v3.HttpConnectionManager\n          stat_prefix: a\n          \
         http_filters: [{{ name: router, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}]\n          route_config:\n            \
         virtual_hosts:\n            - name: all\n              domains: [\"*\"]\n              routes:\n              \
         - match: {{ prefix: / }}\n                route: {{ cluster: primary, request_mirror_policies: [{{ cluster: \
         mirror }}] }}\n  clusters:\n{}{}",
        cluster("primary"),
        cluster("mirror")
    );
    vec![
        ("envoy.yaml", main),
        ("primary.yaml", endpoints("primary", addresses[0])),
        ("mirror.yaml", endpoints("mirror", addresses[1])),
    ]
}

fn traefik(at: &Path, addresses: [SocketAddr; 2], port: u16) -> Vec<(&'static str, String)> {
    let main = format!(
        "entryPoints: {{ web: {{ address: \"127.0.0.1:{port}\" }} }}\nlog: {{ level: ERROR }}\nglobal: {{ \
         checkNewVersion: false, sendAnonymousUsage: false }}\nproviders: {{ file: {{ filename: {}, watch: true }} }}\n",
        file(at, "routes.yaml")
    );
    let routes = format!(
        "http:\n  routers: {{ all: {{ rule: \"PathPrefix(`/`)\", service: both, entryPoints: [web] }} }}\n  services:\n    \
         both: {{ mirroring: {{ service: primary, mirrors: [{{ name: mirror, percent: 100 }}] }} }}\n    \
         primary: {{ loadBalancer: {{ servers: [{{ url: \"http://{}\" }}] }} }}\n    \
         mirror: {{ loadBalancer: {{ servers: [{{ url: \"http://{}\" }}] }} }}\n",
        addresses[0], addresses[1]
    );
    vec![("traefik.yaml", main), ("routes.yaml", routes)]
}

fn nginx(at: &Path, addresses: [SocketAddr; 2], port: u16) -> Vec<(&'static str, String)> {
    let at = at.display();
    let main = format!(
        "daemon off;\nworker_processes 2;\npid {at}/nginx.pid;\nevents {{ worker_connections 1024; }}\nhttp {{\n  \
         access_log off;\n  client_body_temp_path {at}/a;\n  proxy_temp_path {at}/b;\n  fastcgi_temp_path {at}/c;\n  \
         uwsgi_temp_path {at}/d;\n  scgi_temp_path {at}/e;\n  keepalive_requests 1000000;\n  \
         upstream primary {{ server {}; keepalive 64; }}\n  upstream mirror {{ server {}; keepalive 64; }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    \
         location / {{ mirror /copy; proxy_pass http://primary; }}\n    \
         location = /copy {{ internal; proxy_pass http://mirror$request_uri; }}\n  }}\n}}\n",
        addresses[0], addresses[1]
    );
    vec![("nginx.conf", main)]
}
