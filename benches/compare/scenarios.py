"""What is measured: for each scenario the load, and which proxy does what.

A row is (label, proxy, case); the first row that starts with "mirrorgate" is compared with the others.
Upstream ports are filled in by name: "primary", "mirror1".. and "stalled".
"""

from dataclasses import dataclass, field

from peers import Case

FORWARDING = ["mirrorgate", "nginx", "haproxy", "envoy", "traefik"]
MIRRORING = ["mirrorgate", "nginx", "envoy", "traefik"]


@dataclass
class Scenario:
    name: str
    title: str
    rows: list
    tool: str = "wrk"  # wrk, h2load, openloop, idle or giant
    connections: int = 64
    body: int = 0
    scheme: str = "http"
    pinned: bool = True
    syscalls: bool = False
    options: dict = field(default_factory=dict)


def rows(names, **case):
    return [(name, name, Case(**case)) for name in names]


def mirrors(count, percent=100):
    return [(f"mirror{i + 1}", percent) for i in range(count)]


def all_scenarios():
    unmirrored = [("nginx, no mirror", "nginx", Case()),
                  ("nginx, no mirror, unbuffered", "nginx", Case(unbuffered=True)),
                  ("mirrorgate, no mirror", "mirrorgate", Case())]
    stalled = [("stalled", 100)]
    # Only with --stealing.
    stealing = [("mirrorgate, work stealing", "stealing", Case(workers=2))]
    return [
        Scenario("plain", "GET, 1 KiB answer", rows(FORWARDING), syscalls=True),
        Scenario("mirror", "the same with one mirror", rows(MIRRORING, mirrors=mirrors(1)), syscalls=True),
        Scenario("three-mirrors", "with three mirrors", rows(MIRRORING, mirrors=mirrors(3))),
        Scenario("copies", "none, one, two and three mirrors of one gateway", [
            (f"mirrorgate, {words}", "mirrorgate", Case(mirrors=mirrors(count)))
            for count, words in enumerate(("no mirror", "one", "two", "three"))]),
        Scenario("sampled", "a mirror at 0 % and at 1 %", [
            ("mirrorgate, no mirror", "mirrorgate", Case()),
            ("mirrorgate, 0 %", "mirrorgate", Case(mirrors=mirrors(1, 0))),
            ("mirrorgate, 1 %", "mirrorgate", Case(mirrors=mirrors(1, 1)))]),
        Scenario("post-16k", "POST 16 KiB, one mirror", rows(MIRRORING, mirrors=mirrors(1)) + unmirrored,
                 connections=8, body=16 << 10, syscalls=True),
        Scenario("post-1m", "POST 1 MiB, one mirror", rows(MIRRORING, mirrors=mirrors(1)) + unmirrored,
                 connections=8, body=1 << 20),
        Scenario("tls", "TLS (ECDSA P-256), GET", rows(FORWARDING, tls=True), scheme="https"),
        Scenario("handshakes", "a full TLS handshake (ECDSA P-256) for each GET", rows(FORWARDING, tls=True),
                 scheme="https", options={"headers": ["Connection: close"]}),
        Scenario("h2", "HTTP/2 over TLS to HTTP/1", rows(FORWARDING, tls=True, h2=True), tool="h2load", scheme="https"),
        Scenario("h2c", "HTTP/2 without TLS to HTTP/1", rows(FORWARDING, h2=True), tool="h2load"),
        Scenario("routes", "10 and 10,000 routes, the last one asked for", [
            (f"{name}, {count} routes", name, Case(routes=count))
            for name in FORWARDING for count in (10, 10_000)]),
        Scenario("access-log", "access log to a file", rows(FORWARDING, access_log=True)
                 + [(f"{name}, no log", name, Case()) for name in ("mirrorgate", "nginx", "haproxy")]),
        Scenario("endpoints", "1, 10 and 100 endpoints", [
            (f"{name}, {count} endpoint{'s' * (count > 1)}", name, Case(endpoints=count))
            for name in ("mirrorgate", "nginx", "haproxy") for count in (1, 10, 100)]),
        Scenario("two-workers", "one worker and two, nothing pinned", [
            (f"{name}, {words}", name, Case(workers=count))
            for name in ("mirrorgate", "nginx", "haproxy") for count, words in ((1, "one worker"), (2, "two"))] + stealing, pinned=False),
        Scenario("unequal", "8 busy connections among 1,000, two workers", rows(["mirrorgate", "nginx", "haproxy"], workers=2) + stealing,
                 connections=8, pinned=False, options={"resting": 992, "seconds": 30, "rounds": 1}),
        Scenario("giant", "1 GiB there and 1 GiB back, one mirror", rows(MIRRORING, mirrors=[("giant", 100)]), tool="giant",
                 options={"bytes": 1 << 30}),
        Scenario("latency", "latency from the intended moment, no mirror", rows(FORWARDING), tool="openloop"),
        Scenario("latency-mirror", "the same with one mirror", rows(MIRRORING, mirrors=mirrors(1)), tool="openloop"),
        Scenario("latency-stalled", "the same, the mirror accepts and never answers",
                 rows(MIRRORING, mirrors=stalled), tool="openloop", options={"rate": 1000}),
        Scenario("latency-load", "latency of the gateway at 30 % of its saturation", [
            ("mirrorgate", "mirrorgate", Case()), ("mirrorgate, one mirror", "mirrorgate", Case(mirrors=mirrors(1))),
            ("mirrorgate, a stalled mirror", "mirrorgate", Case(mirrors=stalled))], tool="openloop"),
        Scenario("idle-1k", "1,000 idle keep-alive connections", rows(FORWARDING), tool="idle", connections=1000),
        Scenario("idle-10k", "10,000 idle keep-alive connections", rows(FORWARDING), tool="idle", connections=10_000),
        Scenario("idle-10k-tls", "10,000 idle connections with TLS", rows(["mirrorgate", "nginx", "haproxy"], tls=True),
                 tool="idle", connections=10_000, scheme="https"),
    ]
