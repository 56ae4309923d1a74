//! A cluster on loopback: the suite's manifests as they are, pods behind its Services, and the Secrets
//! and ConfigMaps that the suite makes while it runs. Gateways get addresses of their own, so that
//! ports are those of the manifests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mirrorgate::app::{Origin, ResourceOptions};
use mirrorgate::gateway_api::manifests::{self, Manifests};
use mirrorgate::gateway_api::resources::Key;
use mirrorgate::gateway_api::translate::Settings;
use serde_json::json;

use super::certificates::Certificates;
use super::pods::{Kind, Pod};
use crate::harness::Gateway;

/// The namespace that most of the suite lives in.
pub const INFRA: &str = "gateway-conformance-infra";

/// A gateway with the manifests of one test.
pub struct Cluster {
    pub gateway: Gateway,
    pub certificates: Certificates,
    pods: BTreeMap<(String, String), Vec<Pod>>,
    folder: tempfile::TempDir,
}

/// The folder with the suite's manifests; `None`, and a word, where they are not.
pub fn manifests() -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1).find_map(|up| {
        let folder = up.join("shared/gateway-api/conformance");
        folder.is_dir().then_some(folder)
    });
    if found.is_none() {
        eprintln!("skipped: the conformance manifests are not on this machine");
    }
    // The manifests' ports are what they are.
    if TcpListener::bind((own_network(1), 80)).is_err() {
        eprintln!("skipped: ports below 1024 cannot be listened on");
        return None;
    }
    found
}

/// An address of a part of loopback that no other test has, nor likely another run of the tests.
fn own_network(last: u8) -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let run = u8::try_from(std::process::id() % 248).unwrap();
    Ipv4Addr::new(127, 2 + run, NEXT.fetch_add(1, Ordering::Relaxed), last)
}

impl Cluster {
    /// Starts a gateway with `files` of the folder's tests, beside what all tests have.
    pub async fn start(suite: &Path, files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|file| suite.join("tests").join(file));
        for path in std::iter::once(suite.join("base.yaml")).chain(paths) {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.replace("{GATEWAY_CLASS_NAME}", "mirrorgate");
            std::fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
        }
        let certificates = Certificates::new();
        std::fs::write(folder.path().join("secrets.yaml"), certificates.manifests()).unwrap();
        let network = own_network(0).octets();
        let read = manifests::load(folder.path());
        assert_eq!(read.problems, [], "{files:?}");
        let mut cluster = Pods { network, read: &read, certificates: &certificates, pods: BTreeMap::new() };
        let slices = cluster.start().await;
        let pods = cluster.pods;
        // Read last, for some of the slices are there without their addresses.
        std::fs::write(folder.path().join("zz-slices.yaml"), slices).unwrap();
        let [one, two, three, _] = network;
        let pool = format!("{one}.{two}.{three}.1-{one}.{two}.{three}.99").parse().unwrap();
        let gateway = Gateway::of(Origin::Manifests {
            path: folder.path().to_owned(),
            resources: ResourceOptions {
                admin: Some("off".to_owned()),
                settings: Settings { any_class: true, ..Settings::default() },
                pool: Some(pool),
                ..ResourceOptions::default()
            },
        })
        .await;
        Self { gateway, certificates, pods, folder }
    }

    /// Where a Gateway of the suite's own namespace, `namespace/name` else, listens on `port`.
    pub fn address(&self, gateway: &str, port: u16) -> SocketAddr {
        let full = if gateway.contains('/') { gateway.to_owned() } else { format!("{INFRA}/{gateway}") };
        let listeners = self.gateway.running().listeners();
        let name = format!("{full}:{port}");
        let found = listeners.iter().find(|(listener, _)| **listener == *name);
        if let Some((_, address)) = found {
            return *address;
        }
        // Nobody listens there; on the Gateway's other ports somebody may.
        let prefix = format!("{full}:");
        let other = listeners.iter().find(|(listener, _)| listener.starts_with(&prefix));
        let ip = other.map_or(IpAddr::V4(own_network(200)), |(_, address)| address.ip());
        SocketAddr::new(ip, port)
    }

    /// Puts other text in place of what is in `file`.
    pub fn rewrite(&self, file: &str, change: impl Fn(&str) -> String) {
        let path = self.folder.path().join(file);
        let text = change(&std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    /// How many requests for `path` (with its query) the pods of `app` got.
    pub fn asked(&self, app: &str, path: &str) -> usize {
        let pods = self.pods.get(&(INFRA.to_owned(), app.to_owned())).map_or(&[][..], Vec::as_slice);
        let matches = |pod: &Pod| pod.log.lock().unwrap().iter().filter(|said| said["path"] == *path).count();
        pods.iter().map(matches).sum()
    }
}

/// What starts the pods of all Services.
struct Pods<'a> {
    network: [u8; 4],
    read: &'a Manifests,
    certificates: &'a Certificates,
    pods: BTreeMap<(String, String), Vec<Pod>>,
}

impl Pods<'_> {
    /// Starts them; EndpointSlices for all Services as YAML.
    async fn start(&mut self) -> String {
        let mut slices = String::new();
        for (key, service) in &self.read.resources.services {
            let spec = service.spec.as_ref().unwrap();
            let app = match spec.selector.as_ref().and_then(|selector| selector.get("app")) {
                Some(app) => app.clone(),
                // The suite fills these slices in by hand.
                None if key.name.contains("manual") => "infra-backend-v1".to_owned(),
                None => continue,
            };
            let addresses = self.of(&key.namespace, &app).await;
            let ports: Vec<_> = (spec.ports.iter().flatten())
                .filter(|port| port.protocol.as_deref() != Some("UDP"))
                .map(|port| {
                    let target = match &port.target_port {
                        Some(IntOrString::Int(target)) => *target,
                        _ => port.port,
                    };
                    json!({ "name": port.name.clone().unwrap_or_default(), "port": target, "protocol": "TCP" })
                })
                .collect();
            let name = match spec.selector.is_some() {
                true => format!("{}-abc", key.name),
                false => format!("{}-ip4", key.name),
            };
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": name, "namespace": key.namespace,
                    "labels": { "kubernetes.io/service-name": key.name },
                },
                "addressType": "IPv4", "ports": ports,
                "endpoints": addresses.iter().map(|address| json!({ "addresses": [address] })).collect::<Vec<_>>(),
            });
            writeln!(slices, "---\n{slice}").unwrap();
        }
        slices
    }

    /// Addresses of the pods of `app`.
    async fn of(&mut self, namespace: &str, app: &str) -> Vec<Ipv4Addr> {
        let key = (namespace.to_owned(), app.to_owned());
        if !self.pods.contains_key(&key) {
            let secret = Key::new(
                namespace,
                if namespace == INFRA {
                    "tls-checks-certificate"
                } else {
                    "tls-passthrough-checks-certificate"
                },
            );
            let kind = match app {
                _ if app.starts_with("grpc-") => Kind::Grpc,
                "tcp-backend" => Kind::Lines(
                    self.certificates
                        .server(&Key::new(namespace, "tls-passthrough-checks-certificate"), None),
                ),
                "tls-backend-with-client-cert-validation" => {
                    Kind::Http(Some(self.certificates.server(&secret, Some("tls-checks-ca-certificate"))))
                }
                _ if app.starts_with("tls-") => Kind::Http(Some(self.certificates.server(&secret, None))),
                _ => Kind::Http(None),
            };
            // Retries are counted by the pod.
            let replicas = if app == "infra-backend-v3" || app.starts_with("tls-") { 1 } else { 2 };
            let mut pods = Vec::new();
            for _ in 0..replicas {
                let number = self.pods.values().map(Vec::len).sum::<usize>() + pods.len();
                let [one, two, three, _] = self.network;
                let address = Ipv4Addr::new(one, two, three, u8::try_from(100 + number).unwrap());
                pods.push(Pod::start(namespace, app, address, kind.clone()).await);
            }
            self.pods.insert(key.clone(), pods);
        }
        self.pods[&key].iter().map(|pod| pod.address).collect()
    }
}
