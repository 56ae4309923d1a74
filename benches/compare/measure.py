"""Processes and what they cost: CPU from the scheduler's own statistics, memory, descriptors, system calls."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

# One for all connections: each context of its own would take half a megabyte of the load generator's.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


def tree(pid):
    """The process and all its descendants, threads of each included by the callers."""
    found = [pid]
    for parent in found:
        for thread in listing(f"/proc/{parent}/task"):
            try:
                found += [int(child) for child in Path(f"/proc/{parent}/task/{thread}/children").read_text().split()]
            except OSError:
                pass
    return found


def listing(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def cpu_microseconds(pid):
    """Time on a core since the start, in nanosecond steps (clock ticks are too coarse for one second)."""
    total = 0
    for process in tree(pid):
        for thread in listing(f"/proc/{process}/task"):
            try:
                total += int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0])
            except (OSError, ValueError):
                pass
    return total / 1e3


def cpu_by_thread(pid):
    """The same for each thread of the tree by itself."""
    found = {}
    for process in tree(pid):
        for thread in listing(f"/proc/{process}/task"):
            try:
                found[thread] = int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0]) / 1e3
            except (OSError, ValueError):
                pass
    return found


def busiest(before, after, workers):
    """CPU of the busiest thread over the mean of as many as there are workers."""
    used = sorted((after[thread] - before.get(thread, 0) for thread in after), reverse=True)[:workers]
    return used[0] * workers / sum(used) if sum(used) else None


def memory_mib(pid):
    """Resident memory of the tree; pages that a master and its workers share count once (Pss)."""
    total = 0
    for process in tree(pid):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
        except (OSError, AttributeError):
            pass
    return total / 1024


def descriptors(pid):
    return sum(len(listing(f"/proc/{process}/fd")) for process in tree(pid))


class Process:
    """A child pinned to a core, in its own session so that all of it ends with `stop`."""

    def __init__(self, command, log, core=None, environment=None):
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        self.log = open(log, "ab")
        self.child = subprocess.Popen(pinned + command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
                                      env={**os.environ, **(environment or {})}, start_new_session=True)
        self.pid = self.child.pid

    def stop(self):
        for sign, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(self.pid, sign)
                self.child.wait(patience)
                break
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        try:  # workers whose master went first
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.log.close()


def wait_for(port, child, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if child.child.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def probe(port, scheme, path="/", seconds=20):
    """Waits for the first 200: a proxy may listen before its routes are ready."""
    end = time.monotonic() + seconds
    said = "no answer"
    while time.monotonic() < end:
        try:
            with open_connection(port, scheme) as stream:
                said = ask(stream, path)
                if " 200" in said:
                    return None
        except OSError as error:
            said = str(error)
        time.sleep(0.1)
    return said


def open_connection(port, scheme):
    stream = socket.create_connection(("127.0.0.1", port), 5)
    if scheme == "https":
        stream = TLS.wrap_socket(stream, server_hostname="bench.local")
    return stream


def ask(stream, path="/"):
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.local\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        part = stream.recv(65536)
        if not part:
            raise OSError("closed without an answer")
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.I)
    while length and len(body) < int(length.group(1)):
        part = stream.recv(65536)
        if not part:
            raise OSError("closed within an answer")
        body += part
    return head.split(b"\r\n")[0].decode()


def run_load(scenario, port, path, seconds, tools, core, rate=None):
    """Runs the load generator once; a dict with the requests and what it knows of latency."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    url = f"{scenario.scheme}://127.0.0.1:{port}{path}"
    connections = str(scenario.connections)
    if scenario.tool == "openloop":
        out = output(pin + [tools["openloop"], str(port), connections, str(rate), str(seconds)], seconds)
        told = json.loads(out or "{}")
        if not told:
            return None
        return {"requests": told["done"], "failed": told["due"] - told["done"],
                "p50": told["p50"] / 1e3, "p99": told["p99"] / 1e3, "rate": rate}
    if scenario.tool == "h2load":
        out = output(pin + [tools["h2load"], "-t1", "-c", connections, "-m", "10", "-D", str(seconds), url], seconds)
        done = re.search(r"requests: .* (\d+) succeeded, (\d+) failed", out)
        return {"requests": int(done.group(1)), "failed": int(done.group(2))} if done else None
    script = ["-s", tools[f"body-{scenario.body}"]] if scenario.body else []
    script += [word for header in scenario.options.get("headers", []) for word in ("-H", header)]
    out = output(pin + [tools["wrk"], "-t1", "-c", connections, f"-d{seconds}", "--latency", *script, url], seconds)
    done = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", out)
    if not done:
        return None
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    failed = int(bad.group(1)) if bad else 0
    failed += sum(int(n) for n in broken.groups()) if broken else 0
    quantile = {q: re.search(rf"{q}%\s+([\d.]+)(us|ms|s|m)", out) for q in (50, 99)}
    unit = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}
    told = {f"p{q}": float(m.group(1)) * unit[m.group(2)] for q, m in quantile.items() if m}
    return {"requests": int(done.group(1)), "failed": failed, **told}


def output(command, seconds):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20).stdout
    except subprocess.TimeoutExpired:
        return ""


def system_calls(strace, pid, load):
    """System calls per request: strace counts over the tree while `load` runs. Slow, so never timed."""
    pids = [word for process in tree(pid) for word in ("-p", str(process))]
    try:
        watcher = subprocess.Popen([strace, "-f", "-c", "-q"] + pids, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except OSError:
        return None
    time.sleep(0.5)
    told = load()
    watcher.send_signal(signal.SIGINT)
    try:
        _, text = watcher.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        watcher.kill()
        return None
    total = re.search(r"^100\.00\s+\S+\s+\d*\s+(\d+)", text, re.M)
    return int(total.group(1)) / told["requests"] if total and told and told["requests"] else None
