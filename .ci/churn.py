"""What a long life brings a gateway, in a minute: see .ci/clients.

churn.py PORT TLS_PORT ADMIN PID handshakes|churn|idle
"""
import asyncio
import re
import resource
import ssl
import sys
import time
import urllib.request

port, tls_port, admin, pid = map(int, sys.argv[1:5])
QUICK = b"GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n"


def metric(name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
    return float(re.search(rf"^{name} (\S+)", text, re.M)[1])


def state():
    with open(f"/proc/{pid}/status") as status:
        resident = int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])
    return metric("mirrorgate_client_connections"), metric("process_open_fds"), resident


async def settled(seconds=20):
    """Waits until no client connection is left."""
    for _ in range(seconds * 10):
        if metric("mirrorgate_client_connections") == 0:
            return
        await asyncio.sleep(0.1)
    sys.exit(f"{metric('mirrorgate_client_connections')} connections are still counted")


async def answered(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 302"):
        sys.exit(f"not what a good request gets: {head!r}")


async def one(number):
    """One connection, of seven kinds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        match number % 7:
            case 0:
                pass
            case 1:
                writer.write(b"GET /quick HTTP/1.1\r\nHo")
                await writer.drain()
            case 2:
                writer.write(b"GET /quick HTTP/1.1\nHost: a\n\n")
                await reader.read()
            case 3:
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
                await reader.read(9)
            case 4:
                writer.write(QUICK)
                await answered(reader)
                writer.transport.abort()
            case 5:
                for _ in range(3):
                    writer.write(QUICK)
                    await answered(reader)
            case 6:
                writer.write(QUICK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                await reader.read()
    finally:
        writer.close()


async def many(count, at_once=100):
    numbers = iter(range(count))

    async def some():
        for number in numbers:
            await one(number)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def churn():
    """As many connections as a busy service sees in hours: none of them leaves anything behind."""
    await many(3000)
    await settled()
    before, begun = state(), time.monotonic()
    count = 40_000
    await many(count)
    await settled()
    after = state()
    print(f"{count} connections in {time.monotonic() - begun:.0f} s: descriptors {before[1]:.0f} -> {after[1]:.0f}, "
          f"resident {before[2]} -> {after[2]} KiB")
    if after[1] > before[1] + 3 or after[2] > before[2] + 16 * 1024:
        sys.exit("they leave something behind")


async def idle():
    """10,000 connections that have asked once and wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, (hard if hard != resource.RLIM_INFINITY else 1 << 20) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 500)), hard))
    await many(1000)
    await settled()
    before, kept = state(), []
    for start in range(0, count, 100):
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(100)))
        for _, writer in opened:
            writer.write(QUICK)
        for reader, _ in opened:
            await answered(reader)
        kept += opened
    during = state()
    each = (during[2] - before[2]) / len(kept)
    print(f"{len(kept)} idle connections: {during[2] - before[2]} KiB, {each:.1f} KiB each")
    reader, writer = kept[-1]
    writer.write(QUICK)
    await answered(reader)
    for _, writer in kept:
        writer.close()
    await settled()
    print(f"and after they left: {state()[2] - before[2]} KiB")
    if len(kept) == during[0] and each > 32:
        sys.exit("that is more than 32 KiB each")


async def handshakes():
    """Full handshakes and a request on each for eleven seconds; none may fail."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    begun, done = time.monotonic(), 0

    async def some():
        nonlocal done
        while time.monotonic() - begun < 11:
            reader, writer = await asyncio.open_connection("127.0.0.1", tls_port, ssl=context)
            writer.write(QUICK)
            await answered(reader)
            writer.close()
            done += 1

    # One connection that lives through all of them.
    reader, writer = await asyncio.open_connection("127.0.0.1", tls_port, ssl=context)
    writer.write(QUICK)
    await answered(reader)
    await asyncio.gather(*(some() for _ in range(8)))
    writer.write(QUICK)
    await answered(reader)
    writer.close()
    print(f"{done} handshakes, none failed")


asyncio.run({"handshakes": handshakes, "churn": churn, "idle": idle}[sys.argv[5]]())
