"""What is promised, what is aimed at, and whether it held: told for this gateway and for the others."""
import os
import statistics

from figures import MIB, interval, worded
from servers import FAULTS, TAKES_NOTHING

# What the gateway may hold for copies (64 MiB a worker), its read buffers and itself.
MEMORY_MIB = 64 * (os.cpu_count() or 1) + 128
MARKS = ("<!-- isolation -->", "<!-- /isolation -->")


def of(name, rows):
    """Pairs of an aim and how it went: `None` where nothing was measured, else whether it held and why."""
    rows = [row for row in rows if row["proxy"] == name and row["fault"] != "absent"]
    traffic = [row for row in rows if "traffic" in row]
    told = [("promise", "no status and no body differs from mirrors off", unchanged(traffic))]
    if name == "mirrorgate":
        told.append(("promise", "the outcomes add up to the requests", accounted(rows)))
    told += [
        ("promise", f"at most {MEMORY_MIB} MiB with any mirror", memory(rows)),
        ("aim", "p50 at 30 % of saturation: median ratio at most 1.05", worst(traffic, "get_at_30%", "p50", lambda r: statistics.median(r) <= 1.05, max)),
        ("aim", "p99 at 30 % of saturation: the ratio's interval reaches down to 1.10", worst(traffic, "get_at_30%", "p99", lambda r: interval(r)[0] <= 1.10, max)),
        ("aim", "an upload paced at 100 MB/s: at least 0.95 with any mirror", worst(traffic, "paced", "rate", lambda r: statistics.median(r) >= 0.95, min)),
        ("aim", "an unpaced one: the ratio's interval reaches up to 0.95 with mirrors that take no bytes", worst([row for row in traffic if row["fault"] in TAKES_NOTHING], "unpaced", "rate", lambda r: interval(r)[1] >= 0.95, min)),
    ]
    return told


def unchanged(rows):
    # What goes wrong without a mirror is not the mirror's doing.
    wrong = [
        f"{row[what]} {what[6:]} of {row['requests']} ({row['fault']}, {row['traffic']})"
        for row in rows
        for what in ("wrong_status", "wrong_body")
        if row[what] > row[f"{what}_off"]
    ]
    requests = sum(row["requests"] for row in rows)
    return (not wrong, "; ".join(wrong) or f"0 of {requests:,}") if rows else None


def accounted(rows):
    counted = [row for row in rows if "outcomes" in row]
    lost = [f"{row['fault']}: {row['outcomes']}" for row in counted if {"ACCOUNTING_ERROR", "unavailable"} & set(row["outcomes"])]
    return (not lost, "; ".join(lost) or f"{sum(sum(row['outcomes'].values()) for row in counted):,} outcomes") if counted else None


def memory(rows):
    peaks = [(row["memory_mib"], row["fault"]) for row in rows if "memory_mib" in row]
    return (max(peaks)[0] <= MEMORY_MIB, f"{max(peaks)[0]:.0f} MiB ({max(peaks)[1]})") if peaks else None


def worst(rows, kind, key, holds, which):
    found = [(row[key]["ratios"], row["fault"], row["traffic"]) for row in rows if row["traffic"].startswith(kind) and row.get(key)]
    if not found:
        return None
    missed = [entry for entry in found if not holds(entry[0])]
    ratios, fault, traffic = which(missed or found, key=lambda entry: statistics.median(entry[0]))
    return not missed, f"worst of {len(found)}: {worded(ratios)} ({fault}, {traffic})"


def tell(rows, options):
    """Prints all that held or did not; 1 if this gateway broke a promise."""
    broken = False
    for name in options.proxies:
        print(f"\n{name}")
        for kind, aim, result in of(name, rows):
            if kind == "aim" and options.mode == "smoke":
                continue
            word = "not measured" if result is None else "holds" if result[0] else "BROKEN" if kind == "promise" else "does not hold"
            print(f"  {word:15}{aim}{': ' + result[1] if result else ''}")
            broken |= name == "mirrorgate" and word == "BROKEN"
    if "mirrorgate" in options.proxies:
        print("\nA promise is broken." if broken else "\nEvery promise held.")
    return int(broken)


def write(path, rows, options):
    """Puts the tables between the marks of the page at `path`."""
    with open(path) as file:
        before, _, rest = file.read().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    with open(path, "w") as file:
        file.write(before + MARKS[0] + "\n" + "\n".join(page(rows, options)) + "\n" + MARKS[1] + after)


def page(rows, options):
    yield f"`benches/isolation/run` ({options.mode}), {os.cpu_count()} cores, " + ", ".join(
        f"{name} {version}" for name, version in options.versions.items()
    )
    yield "\nTraffic: " + ", ".join(options.traffic) + ", and GETs at 30 % of saturation."
    if options.peers_traffic.keys() != options.traffic.keys() and len(options.proxies) > 1:
        yield "The others: " + ", ".join(options.peers_traffic) + ", and those GETs with three of the mirrors."
    for name in options.proxies:
        yield f"\n**{name}**\n\n| | | |\n|---|---|---|"
        for _, aim, result in of(name, rows):
            yield f"| {'–' if result is None else 'holds' if result[0] else 'does not hold'} | {aim} | {result[1] if result else 'not measured'} |"
        yield "\n| mirror | wrong of requests | p50 | p99 | paced | unpaced | memory | fds | copies |\n|---|---|---|---|---|---|---|---|---|"
        for fault in options.faults:
            measured = [row for row in rows if row["proxy"] == name and row["fault"] == fault]
            if measured:
                yield line(measured, fault)


def line(rows, fault):
    refused = next((row["not_possible"] for row in rows if "not_possible" in row), None)
    if refused:
        return f"| {FAULTS[fault]} | not possible: {refused.replace('|', ' ')[:80]} ||||||||"
    traffic = [row for row in rows if "traffic" in row]
    wrong = sum(max(0, row[what] - row[f"{what}_off"]) for row in traffic for what in ("wrong_status", "wrong_body"))

    def ratio(kind, key):
        return "; ".join(worded(row[key]["ratios"]) for row in traffic if row["traffic"].startswith(kind) and row.get(key))

    last = next((row for row in rows if "outcomes" in row), {"memory_mib": 0, "fds": 0, "outcomes": {}})
    copies = ", ".join(f"{outcome} {count:,}" for outcome, count in sorted(last["outcomes"].items()))
    return (
        f"| {FAULTS[fault]} | {wrong:,} of {sum(row['requests'] for row in traffic):,} | {ratio('get_at_30%', 'p50')} | {ratio('get_at_30%', 'p99')} "
        f"| {ratio('paced', 'rate')} | {ratio('unpaced', 'rate')} | {last['memory_mib']:.0f} MiB | {last['fds']} | {copies} |"
    )
