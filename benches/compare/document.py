"""The figures of docs/performance.md, from compare.json: tables, and which promises hold.

What is between the marks of the page is written anew by `benches/compare/run --write`; all else in it
is written by hand.
"""

import statistics

BEGIN = "<!-- figures -->"
END = "<!-- /figures -->"
PROXIES = ["mirrorgate", "nginx", "haproxy", "envoy", "traefik"]
NAMES = {"haproxy": "HAProxy", "envoy": "Envoy", "traefik": "Traefik"}
MATRIX = ["plain", "mirror", "three-mirrors", "tls", "handshakes", "h2", "h2c", "access-log"]
BODIES = {"post-16k": "16 KiB", "post-1m": "1 MiB"}
LATENCY = {"latency": "no mirror", "latency-mirror": "one mirror", "latency-stalled": "a stalled mirror",
           "latency-load": "the gateway alone"}
SATURATED = 0.8  # of its core: less, and something else than the proxy was the limit


def values(rounds, key):
    return [told[key] for told in rounds if told.get(key) is not None]


def median(rounds, key):
    found = values(rounds, key)
    return statistics.median(found) if found else None


def ratio(own, other, key="cpu"):
    """One proxy's over another's, round by round: noise that lasts longer than a round cancels."""
    pairs = sorted(a[key] / b[key] for a, b in zip(own, other) if a.get(key) and b.get(key))
    return (statistics.median(pairs), pairs[0], pairs[-1]) if pairs else None


def ranged(found, digits):
    if not found:
        return "–"
    text = f"{statistics.median(found):,.{digits}f}"
    return text + (f" ({min(found):,.{digits}f}..{max(found):,.{digits}f})" if len(found) > 1 else "")


def spread(triple):
    return "{:.2f} ({:.2f}..{:.2f})".format(*triple) if triple else "–"


def table(head, rows):
    line = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return "\n".join([line(head), "|" + "---|" * len(head)] + [line(row) for row in rows])


class Figures:
    """Scenario -> label -> rounds."""

    def __init__(self, told):
        self.told = told
        self.found = {name: scenario["rounds"] for name, scenario in told["scenarios"].items()}

    def rounds(self, scenario, label):
        return self.found.get(scenario, {}).get(label, [])

    def ratio(self, scenario, own, other, key="cpu"):
        return ratio(self.rounds(scenario, own), self.rounds(scenario, other), key)

    def median(self, scenario, label, key):
        return median(self.rounds(scenario, label), key)


def page(told):
    """All that stands between the marks."""
    figures = Figures(told)
    parts = [introduction(told, figures), "![CPU time of the proxy per request](performance.svg)",
             matrix(figures), others(figures), bodies(figures), latency(figures), system_calls(figures), memory(figures),
             scale(figures), "## Targets\n\n" + targets(figures)]
    return "\n\n".join(part for part in parts if part)


def introduction(told, figures):
    versions = ", ".join(f"{NAMES.get(name, name)} {version}" for name, version in told["versions"].items())
    slack = [name for name, scenario in figures.found.items()
             if "latency" not in name and not name.startswith(("two", "unequal"))
             and any((median(r, "busy") or 1) < SATURATED for r in scenario.values())]
    busy = f"Every proxy had at least {SATURATED:.0%} of its core." if not slack else (
        f"**In {', '.join(slack)} a proxy had less than {SATURATED:.0%} of its core**: the load, the upstreams or other work was "
        "the limit, and its CPU per request is that of a proxy that sleeps between requests.")
    return f"## A run\n\n{told['when']}, {told['machine']}: {versions}. Rounds of {told.get('seconds', 1)} s. {busy}"


def matrix(figures):
    rows = []
    for name in [name for name in MATRIX if name in figures.found]:
        cells = [figures.told["scenarios"][name]["title"]]
        for proxy in PROXIES:
            cell = ranged(values(figures.rounds(name, proxy), "cpu"), 1)
            if proxy != "mirrorgate" and (pair := figures.ratio(name, "mirrorgate", proxy)):
                cell += f" [{spread(pair)}]"
            cells.append(cell)
        rows.append(cells)
    return ("CPU time of the proxy in microseconds per request, median (min..max); in brackets mirrorgate's over the peer's, "
            "taken within each round.\n\n" + table(["scenario"] + [NAMES.get(p, p) for p in PROXIES], rows)) if rows else ""


def others(figures):
    """Scenarios whose rows are variants of one proxy."""
    rows = [[figures.told["scenarios"][name]["title"], label, ranged(values(r, "cpu"), 1)]
            for name in ("copies", "sampled", "access-log", "endpoints", "routes", "two-workers")
            for label, r in figures.found.get(name, {}).items() if "," in label]
    return table(["scenario", "row", "CPU, µs a request"], rows) if rows else ""


def bodies(figures):
    present = [name for name in BODIES if name in figures.found]
    labels = list(dict.fromkeys(label for name in present for label in figures.found[name]))
    rows = [[label] + [ranged(values(figures.rounds(name, label), key), digits)
                       for name in present for key, digits in (("cpu", 1), ("ns_per_byte", 2))] for label in labels]
    head = ["POST"] + [f"{BODIES[name]}, {unit}" for name in present for unit in ("µs", "ns a byte")]
    return "Each carries a copy to one mirror, except in the rows \"no mirror\".\n\n" + table(head, rows) if rows else ""


def latency(figures):
    rows = []
    for name in [name for name in LATENCY if name in figures.found]:
        for label, r in figures.found[name].items():
            own = [spread(figures.ratio(name, "mirrorgate", label, key)) if label != "mirrorgate" else "" for key in ("p50", "p99")]
            rows.append([LATENCY[name], label, ranged(values(r, "rate"), 0).split(" ")[0], ranged(values(r, "p50"), 3),
                         ranged(values(r, "p99"), 3), f"{sum(values(r, 'failed')):,}"] + own)
    head = ["scenario", "proxy", "offered/s", "p50 ms", "p99 ms", "unanswered", "mirrorgate's p50 over it", "p99"]
    return "Latency from the moment a request was due.\n\n" + table(head, rows) if rows else ""


def system_calls(figures):
    told = []
    for name, words in (("plain", "without a mirror"), ("mirror", "with one")):
        calls = [f"{NAMES.get(label, label)} {median(r, 'syscalls'):.2f}" for label, r in figures.found.get(name, {}).items()
                 if median(r, "syscalls")]
        told += [f"{words}: {', '.join(calls)}"] if calls else []
    return "System calls per request, " + "; ".join(told) + "." if told else ""


def memory(figures):
    rows = [[figures.told["scenarios"][name]["title"], label] + [ranged(values(r, key), digits) for key, digits in
            (("requests", 0), ("idle", 1), ("open", 1), ("after", 1))]
            for name in ("idle-1k", "idle-10k", "idle-10k-tls") for label, r in figures.found.get(name, {}).items() if r]
    rows += [[figures.told["scenarios"]["giant"]["title"], label, "1", ranged(values(r, "idle"), 1), ranged(values(r, "most"), 1), ""]
             for label, r in figures.found.get("giant", {}).items() if r]
    head = ["memory, MiB", "proxy", "connections", "before", "open, or at most", "closed"]
    return table(head, rows) if rows else ""


def scale(figures):
    told = [f"{NAMES.get(label, label)} {median(r, 'busiest'):.2f}" for label, r in figures.found.get("unequal", {}).items()
            if median(r, "busiest")]
    return f"Busiest worker over the mean, 8 busy connections among 1,000: {', '.join(told)}." if told else ""


def targets(figures):
    rows = []

    def judge(text, bound, found, digits=2, reaches=False):
        """`found` is a figure or a (median, least, most); one that `reaches` holds by its least."""
        if found is None:
            return rows.append([text, "–", "not measured"])
        middle, least, most = found if isinstance(found, tuple) else (found, found, found)
        shown = spread(found) if isinstance(found, tuple) else f"{found:.{digits}f}"
        rows.append([text, shown, "yes" if middle <= bound or (reaches and least <= bound) else "within the range" if least <= bound else "**no**"])

    def grows(scenario, label, before, after):
        return ratio(figures.rounds(scenario, f"{label}, {after}"), figures.rounds(scenario, f"{label}, {before}"))

    for peer in ("nginx", "haproxy"):
        judge(f"plain GET: at most 1.0 × {NAMES.get(peer, peer)}", 1.0, figures.ratio("plain", "mirrorgate", peer))
    for peer, bound in (("nginx", 0.42), ("envoy", 0.23), ("traefik", 0.23)):
        judge(f"one mirror: at most {bound} × {NAMES.get(peer, peer)}", bound, figures.ratio("mirror", "mirrorgate", peer))
    none, one, three = (figures.median("copies", f"mirrorgate, {count}", "cpu") for count in ("no mirror", "one", "three"))
    judge("a copy: at most 0.6 of a plain request", 0.6, (one - none) / none if one and none else None)
    judge("each further copy: at most the first", 1.0, (three - one) / 2 / (one - none) if three and one and none else None)
    for scenario, words in (("latency", "no mirror"), ("latency-mirror", "one mirror"), ("latency-stalled", "a stalled mirror")):
        peers = {label: r for label, r in figures.found.get(scenario, {}).items() if label != "mirrorgate" and median(r, "p50")}
        for key, bound in (("p50", 1.0), ("p99", 1.1)):
            best = min(peers, key=lambda label: median(peers[label], key), default=None)
            judge(f"{key} with {words}: at most {bound} × the best peer's" + (f" ({NAMES.get(best, best)})" if best else ""), bound,
                  figures.ratio(scenario, "mirrorgate", best, key) if best else None, reaches=key == "p99")
    for scenario, size in BODIES.items():
        for label in ("nginx, no mirror", "nginx, no mirror, unbuffered"):
            judge(f"POST {size} with a mirror: at most 1.0 × {label}", 1.0, figures.ratio(scenario, "mirrorgate", label))
        judge(f"POST {size} without: at most 1.0 × nginx, no mirror, unbuffered", 1.0,
              figures.ratio(scenario, "mirrorgate, no mirror", "nginx, no mirror, unbuffered"))
    judge("TLS: at most 1.0 × nginx", 1.0, figures.ratio("tls", "mirrorgate", "nginx"))
    judge("HTTP/2 over TLS: at most 1.4 × HAProxy", 1.4, figures.ratio("h2", "mirrorgate", "haproxy"))
    judge("HTTP/2 over TLS: at most 0.4 × Envoy", 0.4, figures.ratio("h2", "mirrorgate", "envoy"))
    judge("idle: below 15 MiB", 15, figures.median("idle-10k", "mirrorgate", "idle"), 1)
    judge("10,000 idle connections: below 200 MiB", 200, figures.median("idle-10k", "mirrorgate", "open"), 1)
    judge("10,000 idle connections with TLS: below 400 MiB", 400, figures.median("idle-10k-tls", "mirrorgate", "open"), 1)
    for scenario, words in (("idle-10k", ""), ("idle-10k-tls", " with TLS")):
        before, after = (figures.median(scenario, "mirrorgate", key) for key in ("idle", "after"))
        judge(f"12 s after 10,000 connections{words} closed: at most 1.5 × the memory before", 1.5, after / before if after and before else None)
    own, other = (grows("two-workers", label, "one worker", "two") for label in ("mirrorgate", "haproxy"))
    judge("a second worker: CPU per request rises at most 1.15 × what HAProxy's does", 1.15, own[0] / other[0] if own and other else None)
    judge("8 busy connections among 1,000: busiest worker at most 1.6 × the mean", 1.6, figures.median("unequal", "mirrorgate", "busiest"))
    judge("10,000 routes: at most 1.05 × 10", 1.05, grows("routes", "mirrorgate", "10 routes", "10000 routes"))
    judge("100 warm endpoints: at most 1.1 × one", 1.1, grows("endpoints", "mirrorgate", "1 endpoint", "100 endpoints"))
    judge("access log to a file: at most 1.1 × no log", 1.1, figures.ratio("access-log", "mirrorgate", "mirrorgate, no log"))
    return table(["target", "found", "holds"], rows)


def write(told, path):
    """Puts the page between the marks of the file at `path`."""
    text = path.read_text()
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    path.write_text(f"{before}{BEGIN}\n\n{page(told)}\n\n{END}{after}")
