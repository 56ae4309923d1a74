"""Small requests at 30 % of what the proxy can do: p50 and p99 beside mirrors off, in paired rounds.

Load and primary are the C programs of `../compare`, so that neither is what is measured; a latency
counts from when its request was due. Without a C compiler there are no such figures, and it is said.

The proxy has one core, and load, primary and mirror have another, as in `../compare`: sharing them, a
mirror's own work would be measured as the proxy's (a healthy mirror then costs the primary a quarter of
its median latency on two cores, whatever the proxy does).
"""
import contextlib
import json
import os
import shutil
import subprocess

from figures import compared
from proxies import NotPossible, free_port
from servers import Upstream, give_way

COMPARE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compare")
SHARE, CONNECTIONS = 0.3, 64


def of_proxy(proxy, folder, options):
    if not shutil.which("cc"):
        print("no C compiler: no latencies at 30 % of saturation")
        return
    for name in ("openloop", "upstream"):
        program = os.path.join(folder, name)
        if not os.path.exists(program):
            subprocess.run(["cc", "-O2", "-o", program, os.path.join(COMPARE, f"{name}.c")], check=True)
    rounds, seconds, faults = plan(proxy.name, options)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, others(cores))
    primary = Served(folder)
    try:
        rate = SHARE * saturation(proxy, folder, primary.port)
        print(f"\n== {proxy.name}: GET at {rate:.0f} a second, {SHARE:.0%} of its saturation; {rounds} paired rounds of {seconds} s")
        for fault in faults:
            yield from of_fault(proxy, folder, primary.port, fault, rate, rounds, seconds)
    finally:
        os.sched_setaffinity(0, cores)
        primary.stop()


@contextlib.contextmanager
def on_the_proxys_core():
    """What is started here is not on the core of what is started elsewhere."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, here)


def others(cores):
    """All but the proxy's, where there is another."""
    return sorted(cores)[1:] or cores


def plan(name, options):
    """Rounds, seconds of each, and faults. The aims are this gateway's: of the others a quick run shows a few."""
    if options.mode == "full":
        return 10, 2, options.faults
    if name == "mirrorgate":
        return 10, 1, options.faults
    return 4, 0.5, [fault for fault in options.faults if fault in ("healthy", "never_reads", "answers_late")]


def of_fault(proxy, folder, primary, fault, rate, rounds, seconds):
    results = ([], [])
    try:
        # Fresh processes for half of the rounds: two of the same binary differ for as long as they live.
        for share in (rounds - rounds // 2, rounds // 2):
            with_one_pair(proxy, folder, primary, fault, rate, share, seconds, results)
    except NotPossible:
        return
    off, on = results
    told = {"proxy": proxy.name, "fault": fault, "traffic": "get_at_30%", "requests": sum(r["due"] for r in on)}
    for side, name in ((on, "wrong_status"), (off, "wrong_status_off")):
        told[name] = sum(result["due"] - result["done"] for result in side)
    told["wrong_body"] = told["wrong_body_off"] = 0
    columns = [f"{compared(told, key, [(a[key], b[key]) for a, b in zip(off, on)], 0.001, ' ms'):>18}" for key in ("p50", "p99")]
    print(f"{fault:15}{told['requests']:>9}{told['wrong_status']:>7}{''.join(columns)}", flush=True)
    yield told


def with_one_pair(proxy, folder, primary, fault, rate, rounds, seconds, results):
    # A mirror written in Python could not take the copies. In earnest it has a machine of its own: here
    # it gives way to everybody, so that what is measured is what the proxy does for it.
    mirror = Served(folder, give_way) if fault in ("healthy", "flapping") else Upstream(fault)
    running = []
    try:
        for port in (None, mirror.port if fault != "absent" else None):
            with on_the_proxys_core():
                running.append(proxy(folder, primary, port, fault))
        for process in running:
            load(folder, process.port, rate, 0.5)
        for number in range(rounds):
            for side in ((0, 1), (1, 0))[number % 2]:
                results[side].append(load(folder, running[side].port, rate, seconds))
    finally:
        for process in running:
            process.stop()
        mirror.stop()


def saturation(proxy, folder, primary):
    """Requests a second that it answers with mirrors off to as many clients as ask all the time."""
    with on_the_proxys_core():
        alone = proxy(folder, primary, None, "healthy")
    try:
        load(folder, alone.port, 1000, 0.5)
        # More than anybody answers: it ends two seconds after the last was due.
        return load(folder, alone.port, 400_000, 1)["done"] / 3
    finally:
        alone.stop()


def load(folder, port, rate, seconds):
    command = [os.path.join(folder, "openloop"), str(port), str(CONNECTIONS), str(int(rate)), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        return {"due": int(rate * seconds), "done": 0, "errors": int(rate * seconds), "p50": None, "p99": None}
    return json.loads(done.stdout)


class Served:
    """The upstream written in C, on a port of its own."""

    def __init__(self, folder, first=None):
        self.port = free_port()
        self.process = subprocess.Popen([os.path.join(folder, "upstream"), str(self.port)], preexec_fn=first)

    def stop(self):
        self.process.kill()
        self.process.wait()
