"""What clients do: each kind of traffic runs against one address and says how it went."""
import asyncio
import hashlib
import socket
import struct
import threading
import time

from servers import body, digest_of

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)
# Seconds without a byte after which a client of a single exchange gives up, which counts as a wrong status.
PATIENCE = {"smoke": 10, "quick": 10, "full": 60}
patience = PATIENCE["full"]


class Result:
    """Statuses that were not 200, bodies that differed, latencies or throughput."""

    def __init__(self):
        self.requests = self.wrong_status = self.wrong_body = 0
        self.latencies, self.rate = [], None

    def count(self, status, same):
        self.requests += 1
        self.wrong_status += status != 200
        self.wrong_body += status == 200 and not same

    def quantile(self, share):
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


# ---- many small requests, at a fixed rate ---------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection with one request at a time; `idle` is where it goes when it has its answer."""

    def __init__(self, pool, result, expected):
        self.pool, self.result, self.expected = pool, result, expected
        self.buffer, self.intended = b"", None

    def connection_made(self, transport):
        self.transport = transport
        self.pool.append(self)

    def ask(self, request, intended):
        self.intended = intended
        self.transport.write(request)

    def data_received(self, data):
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = head.lower().split(b"\r\n")
        length = next((int(f[15:]) for f in fields if f.startswith(b"content-length:")), 0)
        if len(rest) < length:
            return
        self.buffer = b""
        self.result.latencies.append(time.perf_counter() - self.intended)
        self.result.count(int(head[9:12]), rest.decode("latin-1") == self.expected)
        self.intended = None
        self.pool.append(self)

    def connection_lost(self, _):
        if self.intended is not None:
            self.result.count(0, False)
        if self in self.pool:
            self.pool.remove(self)


def at_rate(port, seconds, rate, size):
    """`rate` requests a second with a body of `size`; latency counts from when each was meant to be sent."""
    result, data = Result(), b"".join(body(size))
    method = b"POST" if size else b"GET"
    request = method + b" /hash HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % size + data
    if not size:
        request = b"GET /hash HTTP/1.1\r\nhost: bench\r\n\r\n"
    expected = digest_of(size)

    async def run():
        loop, pool = asyncio.get_running_loop(), []
        start, sent = time.perf_counter() + 0.05, 0
        while sent < seconds * rate:
            intended = start + sent / rate
            pause = intended - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            if not pool:
                try:
                    connect = loop.create_connection(lambda: Client(pool, result, expected), "127.0.0.1", port)
                    await asyncio.wait_for(connect, 5)
                except (OSError, asyncio.TimeoutError):
                    result.count(0, False)
                    sent += 1
                    continue
            pool.pop().ask(request, intended)
            sent += 1
        for _ in range(100):
            if result.requests >= sent:
                return
            await asyncio.sleep(0.05)
        for _ in range(sent - result.requests):
            result.count(0, False)

    asyncio.run(run())
    return result


# ---- single large exchanges -----------------------------------------------------------------------


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), patience)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def answer(sock, expected=None):
    """The status, and whether the body is the expected one; bodies of /bytes/N are hashed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return 0, False
        data += piece
        if data.startswith(b"HTTP/1.1 100") and b"\r\n\r\n" in data:
            data = data.split(b"\r\n\r\n", 1)[1]
    head, rest = data.split(b"\r\n\r\n", 1)
    length = next((int(f[15:]) for f in head.lower().split(b"\r\n") if f.startswith(b"content-length:")), None)
    state, seen = hashlib.blake2b(rest, digest_size=16), len(rest)
    small = rest
    while length is None or seen < length:
        piece = sock.recv(1 << 18)
        if not piece:
            break
        state.update(piece)
        seen += len(piece)
        if seen < 1000:
            small += piece
    status = int(head[9:12])
    if expected is None:
        return status, True
    return status, expected in (state.hexdigest(), small.decode("latin-1"))


def single(exchange):
    """Runs `exchange`, which returns its bytes and what `answer` said, and takes its throughput."""
    result = Result()
    start = time.perf_counter()
    try:
        size, (status, same) = exchange()
    except OSError:
        size, status, same = 0, 0, False
    result.count(status, same)
    # Of a small body it would say nothing.
    result.rate = size / (time.perf_counter() - start) / MIB if size >= MIB else None
    return result


def upload(port, size, pace=None):
    """An upload, at `pace` MB/s if given."""
    expected = digest_of(size)

    def exchange():
        with connect(port) as sock:
            sock.sendall(b"PUT /hash HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % size)
            start, sent = time.perf_counter(), 0
            for piece in body(size):
                sock.sendall(piece)
                sent += len(piece)
                if pace and (ahead := sent / (pace * 1e6) - (time.perf_counter() - start)) > 0.002:
                    time.sleep(ahead)
            return size, answer(sock, expected)

    return single(exchange)


def download(port, size):
    expected = digest_of(size)

    def exchange():
        with connect(port) as sock:
            sock.sendall(b"GET /bytes/%d HTTP/1.1\r\nhost: bench\r\n\r\n" % size)
            return size, answer(sock, expected)

    return single(exchange)


def in_one_byte_chunks(port, size):
    expected = digest_of(size)

    def exchange():
        with connect(port) as sock:
            sock.sendall(b"POST /hash HTTP/1.1\r\nhost: bench\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, size, 64):
                piece = b"".join(body(size))[at : at + 64]
                sock.sendall(b"".join(b"1\r\n%c\r\n" % byte for byte in piece))
            sock.sendall(b"0\r\n\r\n")
            return size, answer(sock, expected)

    return single(exchange)


def slow_clients(port, clients, seconds):
    """Clients that take `seconds` to send 16 KiB each."""
    result, threads = Result(), []
    expected = digest_of(16384)

    def one():
        try:
            with connect(port) as sock:
                sock.sendall(b"POST /hash HTTP/1.1\r\nhost: bench\r\ncontent-length: 16384\r\n\r\n")
                for at in range(16):
                    sock.sendall(b"".join(body(16384))[at * 1024 : (at + 1) * 1024])
                    time.sleep(seconds / 16)
                result.count(*answer(sock, expected))
        except OSError:
            result.count(0, False)

    for _ in range(clients):
        threads.append(threading.Thread(target=one))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return result


def aborting_clients(port, clients):
    """Clients that reset within their body; afterwards somebody is served as ever."""
    for number in range(clients):
        try:
            sock = connect(port)
            sock.sendall(b"POST /hash HTTP/1.1\r\nhost: bench\r\ncontent-length: 100000\r\n\r\n" + b"x" * 20000)
            if number % 2:
                time.sleep(0.002)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
        except OSError:
            pass
    return at_rate(port, 0.3, 50, 0)


def at_once(port, clients, size):
    """Uploads that run side by side, each as fast as it can."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(upload(port, size))) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = Result()
    for result in results:
        together.requests += result.requests
        together.wrong_status += result.wrong_status
        together.wrong_body += result.wrong_body
    together.rate = clients * size / (time.perf_counter() - start) / MIB
    return together


def kinds(mode):
    """Every kind of traffic by name, with how often it is sent to each side."""
    global patience
    patience = PATIENCE[mode]
    if mode == "smoke":
        return {
            "get": (lambda port: at_rate(port, 0.3, 300, 0), 1),
            "post_16k": (lambda port: at_rate(port, 0.3, 100, 16384), 1),
            "unpaced_16m": (lambda port: upload(port, 16 * MIB), 1),
            "at_once_8x8m": (lambda port: at_once(port, 8, 8 * MIB), 1),
            "download_8m": (lambda port: download(port, 8 * MIB), 1),
            "one_byte_chunks": (lambda port: in_one_byte_chunks(port, 2048), 1),
            "aborting_clients": (lambda port: aborting_clients(port, 10), 1),
        }
    if mode == "quick":
        return {
            "get": (lambda port: at_rate(port, 1, 400, 0), 1),
            "post_16k": (lambda port: at_rate(port, 1, 200, 16384), 1),
            "paced_64m": (lambda port: upload(port, 64 * MIB, 100), 3),
            "unpaced_64m": (lambda port: upload(port, 64 * MIB), 12),
            "unpaced_1g": (lambda port: upload(port, 1024 * MIB), 2),
            "at_once_16x16m": (lambda port: at_once(port, 16, 16 * MIB), 1),
            "download_64m": (lambda port: download(port, 64 * MIB), 1),
            "one_byte_chunks": (lambda port: in_one_byte_chunks(port, 4096), 1),
            "slow_clients": (lambda port: slow_clients(port, 20, 1), 1),
            "aborting_clients": (lambda port: aborting_clients(port, 20), 1),
        }
    return {
        "get": (lambda port: at_rate(port, 5, 400, 0), 3),
        "post_16k": (lambda port: at_rate(port, 3, 200, 16384), 3),
        "paced_64m": (lambda port: upload(port, 64 * MIB, 100), 5),
        "paced_1g": (lambda port: upload(port, 1024 * MIB, 100), 1),
        "unpaced_64m": (lambda port: upload(port, 64 * MIB), 10),
        "unpaced_1g": (lambda port: upload(port, 1024 * MIB), 3),
        "at_once_16x64m": (lambda port: at_once(port, 16, 64 * MIB), 1),
        "download_64m": (lambda port: download(port, 64 * MIB), 5),
        "one_byte_chunks": (lambda port: in_one_byte_chunks(port, 8192), 3),
        "slow_clients": (lambda port: slow_clients(port, 50, 4), 1),
        "aborting_clients": (lambda port: aborting_clients(port, 50), 1),
    }


def kinds_for_peers(mode):
    """Those that the others get: in a quick run one upload and no more than shows what they do."""
    kinds_of_all = kinds(mode)
    if mode != "quick":
        return kinds_of_all
    wanted = ("get", "post_16k", "paced_64m", "unpaced_64m", "download_64m", "one_byte_chunks", "aborting_clients")
    return {name: (kinds_of_all[name][0], 1) for name in wanted}
