"""The proxies under test: their configuration for one mirror, their process, what it costs.

`Proxy(folder, primary, mirror, fault)` with `mirror` a port or `None` for mirrors off. A fault that a
proxy cannot be configured for raises `NotPossible`.
"""
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

NAME = "nothing-here.invalid"


class NotPossible(Exception):
    """The proxy has no form for this, or refuses it."""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def replace(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


class Proxy:
    """A running proxy, its memory and file descriptors watched."""

    name = None
    binary = None

    def __init__(self, folder, primary, mirror, fault, binary=None):
        self.folder = os.path.join(folder, f"{self.name}-{fault}-{free_port()}")
        os.makedirs(self.folder)
        self.port, self.admin = free_port(), free_port()
        self.primary, self.mirror, self.fault = primary, mirror, fault
        self.binary = binary or self.binary
        self.stopped = threading.Event()
        self.peak_rss = self.peak_fds = 0
        self.log = open(self.path("log"), "w")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, cwd=self.folder)
        self.await_port()
        self.threads = [threading.Thread(target=self.watch, daemon=True)]
        if mirror and fault == "flapping":
            self.threads.append(threading.Thread(target=self.flap, daemon=True))
        for thread in self.threads:
            thread.start()

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        replace(self.path(name), text)
        return self.path(name)

    def mirror_host(self):
        return NAME if self.fault == "unresolvable" else "127.0.0.1"

    def await_port(self):
        for _ in range(200):
            if self.process.poll() is not None:
                with open(self.path("log")) as log:
                    raise NotPossible(log.read().strip().split("\n")[-1][:200])
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise NotPossible("it does not listen")

    def watch(self):
        while not self.stopped.wait(0.05):
            rss = fds = 0
            for pid in self.tree():
                try:
                    with open(f"/proc/{pid}/statm") as statm:
                        rss += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                    fds += len(os.listdir(f"/proc/{pid}/fd"))
                except OSError:
                    pass
            self.peak_rss, self.peak_fds = max(self.peak_rss, rss), max(self.peak_fds, fds)

    def tree(self):
        pid = self.process.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                return [pid, *map(int, children.read().split())]
        except OSError:
            return [pid]

    def flap(self):
        there = False
        while not self.stopped.wait(0.1):
            there = not there
            self.publish(there)

    def publish(self, there):
        raise NotPossible("its endpoints cannot change without a restart")

    def outcomes(self):
        """What it says became of the copies."""
        return {}

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as reply:
            return reply.read().decode()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Mirrorgate(Proxy):
    name = "mirrorgate"

    def command(self):
        mirrors, backends = "", ""
        if self.mirror:
            scheme = "https" if self.fault == "tls_failure" else "http"
            reference = f"{scheme}://{self.mirror_host()}:{self.mirror}"
            if self.fault in ("no_endpoints", "flapping"):
                self.publish(False)
                reference, backends = "mirror", "backends: { mirror: { file: endpoints.yaml } }"
            mirrors = f'mirrors: ["{reference}"]'
        config = self.write(
            "config.yaml",
            f"listeners: [127.0.0.1:{self.port}]\nadmin: 127.0.0.1:{self.admin}\n"
            f'routes:\n- backend: "http://127.0.0.1:{self.primary}"\n  {mirrors}\n{backends}\n',
        )
        check = subprocess.run([self.binary, "check", config], capture_output=True, text=True)
        if check.returncode:
            raise NotPossible(check.stdout.strip() or check.stderr.strip())
        return [self.binary, "run", "--config", config]

    def publish(self, there):
        self.write("endpoints.yaml", f"endpoints: [{f'127.0.0.1:{self.mirror}' if there else ''}]\n")

    def outcomes(self):
        # A copy that nobody answers takes its 5 s.
        for _ in range(60 if self.mirror else 0):
            counts = self.counts()
            if "in_flight" not in counts:
                return counts
            time.sleep(0.1)
        return self.counts()

    def counts(self):
        counts, error = {}, 0.0
        for line in self.ask("/metrics").splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("mirrorgate_mirror_requests_total") and float(value):
                counts[name.split('outcome="')[1].split('"')[0]] = int(float(value))
            if name.startswith("mirrorgate_mirror_accounting_error"):
                error += abs(float(value))
            if name.startswith("mirrorgate_mirror_in_flight") and float(value):
                counts["in_flight"] = int(float(value))
        if error:
            counts["ACCOUNTING_ERROR"] = error
        return counts


class Envoy(Proxy):
    name = "envoy"

    def command(self):
        route = {"cluster": "primary", "timeout": "0s"}
        clusters = [self.cluster("primary", "127.0.0.1", self.primary)]
        if self.mirror:
            route["request_mirror_policies"] = [{"cluster": "mirror"}]
            clusters.append(self.cluster("mirror", self.mirror_host(), self.mirror, self.fault))
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        }
        listener = {
            "name": "in",
            "address": self.address("127.0.0.1", self.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }
        config = {
            "node": {"id": "bench", "cluster": "bench"},
            "admin": {"address": self.address("127.0.0.1", self.admin)},
            "static_resources": {"listeners": [listener], "clusters": clusters},
        }
        return [self.binary, "-c", self.write("envoy.json", json.dumps(config)), "--use-dynamic-base-id", "--concurrency", "2", "-l", "warning"]

    @staticmethod
    def address(host, port):
        return {"socket_address": {"address": host, "port_value": port}}

    def cluster(self, name, host, port, fault=None):
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": self.address(host, port)}}]}]
        cluster = {"name": name, "connect_timeout": "3s", "type": "STRICT_DNS" if fault == "unresolvable" else "STATIC"}
        cluster["load_assignment"] = {"cluster_name": name, "endpoints": [] if fault == "no_endpoints" else endpoints}
        if fault == "tls_failure":
            cluster["transport_socket"] = {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}}
        if fault == "flapping":
            self.publish(False)
            del cluster["load_assignment"]
            source = {"path_config_source": {"path": self.path("endpoints.json")}}
            cluster.update(type="EDS", eds_cluster_config={"eds_config": source})
        return cluster

    def publish(self, there):
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": self.address("127.0.0.1", self.mirror)}}]}]
        assignment = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "mirror",
            "endpoints": endpoints if there else [],
        }
        self.write("endpoints.json", json.dumps({"version_info": str(time.time()), "resources": [assignment]}))

    def outcomes(self):
        counts = {}
        for line in self.ask("/stats?usedonly&filter=cluster.mirror.upstream").splitlines():
            name, _, value = line.partition(": ")
            short = name.removeprefix("cluster.mirror.upstream_")
            if value.isdigit() and int(value) and short in ("rq_active", "rq_completed", "rq_pending_overflow", "rq_timeout", "cx_connect_fail"):
                counts[short] = int(value)
        return counts


class Traefik(Proxy):
    name = "traefik"

    def command(self):
        self.publish(self.fault not in ("flapping", "no_endpoints"))
        static = self.write(
            "static.yaml",
            f"entryPoints:\n  in: {{ address: '127.0.0.1:{self.port}', transport: {{ respondingTimeouts: {{ readTimeout: 0 }} }} }}\n"
            f"  metrics: {{ address: '127.0.0.1:{self.admin}' }}\n"
            "metrics: { prometheus: { entryPoint: metrics, addServicesLabels: true } }\n"
            f"providers: {{ file: {{ filename: '{self.path('dynamic.yaml')}', watch: true }} }}\nlog: {{ level: ERROR }}\n",
        )
        return [self.binary, f"--configFile={static}"]

    def publish(self, there):
        service, mirrors = "primary", ""
        if self.mirror:
            service = "both"
            scheme = "https" if self.fault == "tls_failure" else "http"
            servers = f"[{{ url: '{scheme}://{self.mirror_host()}:{self.mirror}' }}]" if there else "[]"
            mirrors = (
                "    both: { mirroring: { service: primary, mirrors: [{ name: mirror, percent: 100 }] } }\n"
                f"    mirror: {{ loadBalancer: {{ servers: {servers} }} }}\n"
            )
        self.write(
            "dynamic.yaml",
            f"http:\n  routers: {{ all: {{ rule: 'PathPrefix(`/`)', service: {service}, entryPoints: [in] }} }}\n  services:\n"
            f"    primary: {{ loadBalancer: {{ servers: [{{ url: 'http://127.0.0.1:{self.primary}' }}] }} }}\n{mirrors}",
        )

    def outcomes(self):
        counts = {}
        for line in self.ask("/metrics").splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("traefik_service_requests_total{") and 'service="mirror@file"' in name:
                code = "code " + name.split('code="')[1].split('"')[0]
                counts[code] = counts.get(code, 0) + int(float(value))
        return counts


class Nginx(Proxy):
    name = "nginx"

    def command(self):
        if self.fault in ("no_endpoints", "flapping"):
            raise NotPossible("its endpoints cannot change without a reload, nor be none")
        mirror, location = "", ""
        if self.mirror:
            scheme = "https" if self.fault == "tls_failure" else "http"
            mirror = "mirror /copy;"
            location = (
                f"location = /copy {{ internal; proxy_pass {scheme}://{self.mirror_host()}:{self.mirror}$request_uri; }}"
            )
        config = self.write(
            "nginx.conf",
            ("user root; " if os.geteuid() == 0 else "")  # the workers write into our folder
            + f"daemon off; worker_processes 2; pid {self.path('pid')}; error_log {self.path('error')};\n"
            + "events { worker_connections 20000; }\nhttp { access_log off; client_max_body_size 0;\n"
            + "".join(f"{kind}_temp_path {self.path(kind)};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"upstream primary {{ server 127.0.0.1:{self.primary}; keepalive 64; }}\n"
            f"server {{ listen 127.0.0.1:{self.port}; {location}\n"
            f"location / {{ {mirror} proxy_pass http://primary; proxy_http_version 1.1; proxy_set_header Connection ''; }} }} }}\n",
        )
        return [self.binary, "-p", self.folder, "-c", config]


PROXIES = {proxy.name: proxy for proxy in (Mirrorgate, Envoy, Traefik, Nginx)}
