"""What was found: a table with ratios and ranges, JSON with every round, and a chart in plain SVG."""

import datetime
import json
import platform
import statistics
from html import escape
from pathlib import Path

import peers
from document import SATURATED, median, ratio, values

COLUMNS = [  # key, heading, digits
    ("cpu", "CPU us/request", 1), ("ns_per_byte", "CPU ns/byte", 2), ("rps", "requests/s", 0), ("busy", "core busy", 2),
    ("rate", "offered/s", 0), ("p50", "p50 ms", 2), ("p99", "p99 ms", 2), ("failed", "failed", 0),
    ("busiest", "busiest worker over the mean", 2), ("there", "GiB/s there", 2), ("back", "GiB/s back", 2), ("most", "most MiB", 1),
    ("syscalls", "calls/request", 2), ("requests", "connections", 0), ("idle", "idle MiB", 1), ("open", "open MiB", 1),
    ("after", "closed MiB", 1), ("memory", "MiB", 1), ("descriptors", "fds", 0),
]
RANGED = {"cpu", "ns_per_byte", "p50", "p99"}
CHART = ["plain", "mirror", "three-mirrors", "tls", "h2c", "post-16k"]
COLOURS = {"mirrorgate": "#2f7d5b", "nginx": "#8a8f98", "haproxy": "#a8adb5", "envoy": "#c2c6cc", "traefik": "#d6d9dd"}


def table(scenario, rounds):
    """Markdown, to the standard output."""
    shown = [c for c in COLUMNS if any(values(r, c[0]) for r in rounds.values())]
    if scenario.tool != "idle":
        shown = [c for c in shown if c[0] != "requests"]
    first = next((r for label, r in rounds.items() if label.startswith("mirrorgate")), None)
    compared = bool(first) and any(values(r, "cpu") for r in rounds.values())
    print(f"\n### {scenario.name}: {scenario.title}\n")
    head = ["proxy"] + [heading for _, heading, _ in shown] + (["mirrorgate's CPU over it"] if compared else [])
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for label, told in rounds.items():
        cells = [label] + [cell(told, key, digits) for key, _, digits in shown]
        if compared:
            pair = ratio(first, told) if told is not first else None
            cells.append("{:.2f} ({:.2f}..{:.2f})".format(*pair) if pair else "")
        print("| " + " | ".join(cells) + " |")
    slack = [label for label, told in rounds.items() if scenario.tool in ("wrk", "h2load") and (median(told, "busy") or 1) < SATURATED]
    if scenario.pinned and slack:
        print("\nNot saturated (core busy below {:.1f}): {}. The load, the upstreams or other work on this machine was the limit; "
              "requests/s and latency say little, and CPU per request is that of a proxy that sleeps between requests."
              .format(SATURATED, ", ".join(slack)))
    print(flush=True)


def cell(rounds, key, digits):
    found = values(rounds, key)
    if not found:
        return ""
    text = f"{statistics.median(found):,.{digits}f}"
    if key in RANGED and len(found) > 1:
        text += f" ({min(found):,.{digits}f}..{max(found):,.{digits}f})"
    return text


def write(results, programs, options):
    """The JSON and the chart; with --keep, beside what was measured before. Returns what the JSON has."""
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "compare.json"
    versions = {name: peers.version(name, path) for name, path in programs.items() if name in COLOURS}
    told = {"when": datetime.date.today().isoformat(), "machine": machine(), "seconds": options.seconds, "versions": versions,
            "scenarios": before(options)["scenarios"] if options.keep else {}}
    told["versions"] = {**(before(options)["versions"] if options.keep else {}), **versions}
    told["scenarios"].update({s.name: {"title": s.title, "connections": s.connections, "rounds": r} for s, r in results})
    path.write_text(json.dumps(told, indent=1) + "\n")
    (options.output / "compare.svg").write_text(chart(told["scenarios"]))
    return told


def before(options):
    """What an earlier series left in the output folder."""
    path = options.output / "compare.json"
    return json.loads(path.read_text()) if path.exists() else {"versions": {}, "scenarios": {}}


def machine():
    model = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(model)} x {model[0] if model else platform.machine()}, Linux {platform.release()}"


def chart(scenarios):
    """Small multiples: a panel per scenario, a bar per proxy, a whisker from the least to the most."""
    panels = [(scenarios[name]["title"], {label: r for label, r in scenarios[name]["rounds"].items() if label in COLOURS and values(r, "cpu")})
              for name in CHART if name in scenarios]
    panels = [(title, rounds) for title, rounds in panels if rounds]
    width, left, bar, gap = 380, 84, 18, 6
    height = max([len(rounds) for _, rounds in panels] or [1]) * (bar + gap) + 52
    lines = -(-len(panels) // 2)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {lines * height + 34}" '
           'font-family="system-ui, sans-serif" font-size="12" role="img">',
           "<title>CPU time of the proxy per request, in microseconds; shorter is better</title>",
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="{2 * width - 14}" y="{lines * height + 20}" text-anchor="end" fill="#666">CPU time of the proxy per request, '
           "microseconds of one core; median and range; shorter is better</text>"]
    for index, (title, rounds) in enumerate(panels):
        x, y = (index % 2) * width, (index // 2) * height
        most = max(max(values(r, "cpu")) for r in rounds.values())
        scale = (width - left - 70) / most
        out.append(f'<text x="{x + 14}" y="{y + 26}" font-weight="600" fill="#222">{escape(title)}</text>')
        for row, (label, told) in enumerate(rounds.items()):
            top, middle, found = y + 38 + row * (bar + gap), y + 38 + row * (bar + gap) + bar / 2, values(told, "cpu")
            size = statistics.median(found)
            end = x + left + max(size, max(found)) * scale
            out += [f'<text x="{x + left - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="#333">{escape(label)}</text>',
                    f'<rect x="{x + left}" y="{top}" width="{size * scale:.1f}" height="{bar}" rx="2" fill="{COLOURS[label]}"/>',
                    f'<path d="M{x + left + min(found) * scale:.1f} {middle}H{x + left + max(found) * scale:.1f}" stroke="#333"/>',
                    f'<text x="{end + 6:.1f}" y="{middle + 4:.1f}" fill="#333">{size:.1f}</text>']
    return "\n".join(out) + "\n</svg>\n"
