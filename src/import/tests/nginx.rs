//! Configurations of nginx.

use std::path::Path;

use super::{imported, notes};
use crate::config;
use crate::gateway_api::resources::Key;
use crate::import::{Import, import};
use crate::plan::{Fraction, Oversize, Plan, SampleKey};

/// What a gateway makes of an imported configuration.
fn plan(import: &Import) -> Plan {
    let read = config::parse(&import.text, Path::new(""));
    read.unwrap_or_else(|errors| panic!("{errors}\n{}", import.text)).plan
}

const NGINX: &str = "
worker_processes auto;
events { worker_connections 1024; }
http {
    upstream app { server 127.0.0.1:9001 weight=3; server 127.0.0.1:9002; keepalive 16; }
    upstream next { server next.internal:9003; }
    split_clients $http_x_user $shadow { 10% on; * off; }
    server {
        listen 8080;
        server_name shop.example.com;
        location /api/ {
            mirror /shadow;
            mirror_request_body off;
            proxy_set_header Host $host;
            proxy_pass http://app;
        }
        location = /health { proxy_pass http://127.0.0.1:9009; }
        location / { mirror /all; mirror /missing; proxy_set_header Host $host; proxy_pass http://app; rewrite ^ /x; }
        location = /shadow {
            internal;
            if ($shadow = off) { return 204; }
            proxy_set_header X-Env shadow;
            proxy_pass http://next$request_uri;
        }
        location = /all { internal; proxy_set_header Host 'other.test:81'; proxy_pass http://next$request_uri; }
        location ~ \\.php$ { proxy_pass http://app; }
    }
}
";

#[test]
fn an_nginx_configuration_becomes_one_of_ours() {
    let import = imported("nginx.conf", NGINX).unwrap();
    let plan = plan(&import);
    assert_eq!(plan.listeners[0].address.to_string(), "0.0.0.0:8080");
    assert_eq!(plan.routes.len(), 3, "{}", import.text);
    let mirror = &plan.routes[0].mirrors[0];
    assert_eq!(&*mirror.backend, "next");
    assert_eq!(mirror.share.fraction.percent(), 10.0);
    assert_eq!(mirror.sample_by, Some(SampleKey::Header("x-user".parse().unwrap())));
    assert_eq!((mirror.max_body, mirror.on_oversize), (Some(1), Oversize::HeadersOnly));
    assert_eq!(mirror.edits.host.as_ref().unwrap(), "next");
    assert_eq!(mirror.edits.headers.set.len(), 1);
    assert!(plan.routes[1].mirrors.is_empty());
    let all = &plan.routes[2].mirrors[0];
    assert_eq!(all.share.fraction, Fraction::ALL);
    assert_eq!(all.edits.host.as_ref().unwrap(), "other.test");
    let notes = notes(&import);
    for part in [
        "rewrite is not carried over",
        "~ \\.php$ is not",
        "mirror /missing is not",
        "client's Host goes through",
        "without the port of other.test:81",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(import.notes.iter().all(|note| note.place.contains("nginx.conf:")), "{notes}");
}

#[test]
fn a_share_may_be_the_name_of_an_upstream() {
    let text = "
split_clients $request_id $to { 2.5% next; * \"\"; }
upstream next { server 127.0.0.1:9003; }
server {
    listen 127.0.0.1:8080;
    location / { mirror /m; proxy_set_header Host $http_host; proxy_pass http://127.0.0.1:9001/; }
    location = /m { internal; if ($to = \"\") { return 204; } proxy_pass http://$to$request_uri; }
}
";
    let import = imported("site.conf", text).unwrap();
    let plan = plan(&import);
    let mirror = &plan.routes[0].mirrors[0];
    assert_eq!((&*mirror.backend, mirror.share.fraction.percent()), ("next", 2.5));
    assert_eq!(mirror.sample_by, None);
}

/// Imports the first of `files`, which may include the others.
fn imported_files(files: &[(&str, &str)]) -> Import {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    import(&folder.path().join(files[0].0), &Key::new("gw", "g")).unwrap()
}

#[test]
fn what_is_included_is_read_in_its_place() {
    let import = imported_files(&[
        (
            "nginx.conf",
            "http { include mime.types; include conf.d/*.conf; upstream app { server 127.0.0.1:9001; } }\nstream { server { listen 9; } }",
        ),
        ("conf.d/b.conf", "server { listen 82; location / { proxy_pass http://app; } }"),
        (
            "conf.d/a.conf",
            "server {\n listen 81;\n include snippets/mirror.conf;\n location / {\n  mirror /m;\n  proxy_pass http://app;\n } }",
        ),
        ("conf.d/old.conf.bak", "{"),
        (
            "snippets/mirror.conf",
            "proxy_set_header Host $host;\nauth_basic on;\nlocation = /m { internal; proxy_pass http://127.0.0.1:9002$request_uri; }",
        ),
    ]);
    let plan = plan(&import);
    let addresses: Vec<_> = plan.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["0.0.0.0:81", "0.0.0.0:82"]);
    assert_eq!(&*plan.routes[0].mirrors[0].backend, "http://127.0.0.1:9002");
    assert_eq!(plan.routes[0].mirrors[0].edits.host, None, "the Host of the server is inherited");
    let notes = notes(&import);
    for part in [
        "nginx.conf:1: include mime.types is not carried over",
        "mirror.conf:2: auth_basic is not carried over",
        "nginx.conf:2: stream is not carried over",
        "b.conf:1: the client's Host goes through",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(!notes.contains("a.conf"), "{notes}");
}

#[test]
fn a_file_that_includes_itself_ends() {
    let import = imported_files(&[
        ("nginx.conf", "include x.conf; server { location / { proxy_pass http://127.0.0.1:1; } }"),
        ("x.conf", "include x.conf;"),
    ]);
    assert!(notes(&import).contains("include each other"), "{}", notes(&import));
}

#[test]
fn what_nginx_would_not_do_is_not_done() {
    let import = imported(
        "nginx.conf",
        "
split_clients $remote_addr $to { 5% one; 20% two; * ''; }
upstream app { server 127.0.0.1:9001; server 127.0.0.1:9002 backup; server 127.0.0.1:9003 down; }
upstream one { server 127.0.0.1:9011; }
upstream two { server 127.0.0.1:9012; }
proxy_set_header Host $host;
client_max_body_size 1m;
server {
    listen localhost:8080;
    add_header X-Frame-Options DENY;
    mirror /m;
    location / { proxy_pass http://app$request_uri; location /x/ { proxy_pass http://one; } }
    location /tls/ { mirror off; proxy_pass https://app; }
    location /to/ { mirror off; proxy_pass http://app/v/$arg_v; }
    location = /m { internal; proxy_pass_request_body off; proxy_pass http://$to$request_uri; }
}
server { listen unix:/run/x.sock; location / { proxy_pass http://app; } }
server { listen 8443 ssl; location / { return 301 /x; } }
",
    )
    .unwrap();
    let plan = plan(&import);
    let listener = |index: usize| plan.listeners[index].address.to_string();
    assert_eq!(
        (plan.listeners.len(), listener(0), listener(1)),
        (2, "127.0.0.1:8080".into(), "0.0.0.0:8443".into())
    );
    let shares: Vec<_> = plan.routes[0]
        .mirrors
        .iter()
        .map(|mirror| (&*mirror.backend, mirror.share.fraction.percent(), mirror.on_oversize))
        .collect();
    assert_eq!(shares, [("one", 5.0, Oversize::HeadersOnly), ("two", 20.0, Oversize::HeadersOnly)]);
    assert!(plan.routes.iter().all(|route| route.filters.path.is_none()), "{}", import.text);
    for part in ["backend: app\n", "backend: app-https\n"] {
        assert!(import.text.contains(part), "{part}: {}", import.text);
    }
    assert!(!import.text.contains("9002") && !import.text.contains("9003"), "{}", import.text);
    let notes = notes(&import);
    for part in [
        "add_header is not",
        "client_max_body_size is not",
        "9002 is left out: it is marked backup",
        "9003 is left out: it is marked down",
        "location within a location",
        "$to gives clients to one of several",
        "the path of proxy_pass http://app/v/$arg_v",
        "a Unix socket",
        "listens to nothing",
        "ssl is not carried over",
        "here they are verified",
        "location / has no proxy_pass",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

/// Each of these changes what clients or backends get.
#[test]
fn what_changes_answers_is_told_wherever_it_stands() {
    let changes = [
        "charset utf-8;",
        "gzip on;",
        "gzip_comp_level 5;",
        "gzip_disable msie6;",
        "gzip_min_length 256;",
        "gzip_proxied any;",
        "gzip_types text/css;",
        "gzip_vary on;",
        "proxy_buffer_size 128k;",
        "proxy_http_version 2;",
        "server_tokens off;",
    ];
    for directive in changes {
        let name = directive.split(' ').next().unwrap();
        let location = "location / { proxy_pass http://127.0.0.1:9001; }";
        for text in [
            format!("{directive} server {{ {location} }}"),
            format!("server {{ {directive} {location} }}"),
            format!("server {{ location / {{ {directive} proxy_pass http://127.0.0.1:9001; }} }}"),
        ] {
            let notes = notes(&imported("nginx.conf", &text).unwrap());
            assert!(notes.contains(&format!("nginx.conf:1: {name} is not carried over")), "{text}: {notes}");
        }
    }
}

#[test]
fn what_asks_for_how_things_are_is_not_told() {
    let text = "
worker_processes auto; gzip off; charset off; proxy_buffering on; keepalive_timeout 65; sendfile on;
server {
    listen 8080 reuseport backlog=511;
    proxy_set_header Host $host;
    proxy_http_version 1.1; proxy_buffer_size 64k; proxy_buffers 8 16k;
    location / { proxy_buffer_size 4096; proxy_pass http://127.0.0.1:9001; mirror /m; }
    location = /m { internal; proxy_http_version 1.1; proxy_pass http://127.0.0.1:9002$request_uri; }
}
";
    assert_eq!(notes(&imported("nginx.conf", text).unwrap()), "");
}

#[test]
fn words_of_a_listen_that_change_what_is_served_are_carried_over_or_told() {
    let text = "server { listen 8080 proxy_protocol; listen [::]:8081 quic ipv6only=off; location / { proxy_pass http://127.0.0.1:9001; } }";
    let import = imported("nginx.conf", text).unwrap();
    let taken: Vec<_> = plan(&import).listeners.iter().map(|listener| listener.proxy_protocol).collect();
    assert_eq!(taken, [true, false]);
    let notes = notes(&import);
    for part in ["quic of a listen is not carried over", "ipv6only=off of a listen is not carried over"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}
