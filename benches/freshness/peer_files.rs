//! What each peer is told: its configuration with one primary and one mirror, in files.

use std::net::SocketAddr;
use std::path::Path;

/// What a peer has to know.
pub(super) struct Told {
    /// Where it listens.
    pub(super) port: u16,
    /// The endpoints of primary and mirror.
    pub(super) addresses: [SocketAddr; 2],
    /// Who answers for `primary.bench.test` and `mirror.bench.test`.
    pub(super) name_server: SocketAddr,
}

/// The path of a file as text.
pub(super) fn file(at: &Path, name: &str) -> String {
    at.join(name).display().to_string()
}

/// Envoy with endpoints from files.
pub(super) fn envoy_eds(at: &Path, told: &Told) -> Vec<(&'static str, String)> {
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
            "version_info: \"{address}\"\nresources:\n- \"@type\": \
             type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  cluster_name: {name}\n  \
             endpoints:\n  - lb_endpoints:\n    - endpoint: {{ address: {{ socket_address: {{ address: \
             {}, port_value: {} }} }} }}\n",
            address.ip(),
            address.port()
        )
    };
    vec![
        ("envoy.yaml", envoy(told.port, cluster)),
        ("primary.yaml", endpoints("primary", told.addresses[0])),
        ("mirror.yaml", endpoints("mirror", told.addresses[1])),
    ]
}

/// Envoy with endpoints from names.
pub(super) fn envoy_dns(_: &Path, told: &Told) -> Vec<(&'static str, String)> {
    let cluster = |name: &str| {
        format!(
            "  - name: {name}\n    type: STRICT_DNS\n    connect_timeout: 1s\n    respect_dns_ttl: true\n    \
             dns_refresh_rate: 1s\n    dns_lookup_family: V4_ONLY\n    typed_dns_resolver_config:\n      name: \
             envoy.network.dns_resolver.cares\n      typed_config:\n        \"@type\": \
             type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig\n        \
             resolvers: [{{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}]\n        \
             dns_resolver_options: {{ no_default_search_domain: true }}\n    load_assignment:\n      \
             cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {{ \
             socket_address: {{ address: {name}.bench.test, port_value: {} }} }} }}\n",
            told.name_server.port(),
            told.addresses[0].port()
        )
    };
    vec![("envoy.yaml", envoy(told.port, cluster))]
}

/// Envoy with clusters of its own kind.
fn envoy(port: u16, cluster: impl Fn(&str) -> String) -> String {
    format!(
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
    )
}

/// Traefik with its file provider.
pub(super) fn traefik(at: &Path, told: &Told) -> Vec<(&'static str, String)> {
    let Told { port, addresses, .. } = told;
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

/// nginx, whose endpoints are part of its configuration.
pub(super) fn nginx(at: &Path, told: &Told) -> Vec<(&'static str, String)> {
    let Told { port, addresses, .. } = told;
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
