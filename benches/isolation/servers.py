"""The upstreams: a primary that tells what it received, and mirrors with every fault.

Each runs in a process of its own, so that what one of them does costs nobody else's time.
"""
import asyncio
import functools
import hashlib
import logging
import multiprocessing
import os
import select
import socket
import struct
import time

PATTERN = bytes(range(256)) * 256  # 64 KiB; bodies are made of it.
RESET = struct.pack("ii", 1, 0)

# What a mirror does wrong.
FAULTS = {
    "absent": "none in either: what two processes differ by themselves",
    "healthy": "takes everything and answers at once",
    "closed": "nobody listens",
    "blackholed": "SYNs are not answered",
    "never_reads": "accepts and reads nothing",
    "reads_slowly": "reads 10 kB/s",
    "answers_late": "answers after 5 s",
    "garbage": "answers with what is not HTTP",
    "resets_midway": "resets within the body",
    "closes_at_once": "closes what it accepts",
    "endless_answer": "its answer never ends",
    "no_endpoints": "its backend has no endpoints",
    "unresolvable": "its name does not resolve",
    "tls_failure": "it is asked for TLS and speaks none",
    "flapping": "its endpoints come and go ten times a second",
}

# Those that take no byte of a request: what they are sent costs nobody anything.
TAKES_NOTHING = ("closed", "blackholed", "never_reads", "closes_at_once", "no_endpoints", "unresolvable")


def give_way():
    """Runs only while nobody else wants the core, as if it had a machine of its own. (A lower priority is not
    enough: whoever has the core keeps it for some time.)"""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def body(size):
    """A body of `size` bytes in pieces."""
    while size > 0:
        piece = PATTERN[: min(size, len(PATTERN))]
        yield piece
        size -= len(piece)


@functools.cache
def digest_of(size):
    """The hash of `body(size)`."""
    state = hashlib.blake2b(digest_size=16)
    for piece in body(size):
        state.update(piece)
    return state.hexdigest()


class Primary(asyncio.Protocol):
    """Answers /bytes/N with N bytes, anything else with the hash of the request's body."""

    def connection_made(self, transport):
        self.transport, self.buffer = transport, bytearray()
        self.lost = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.next_request()

    def next_request(self):
        self.head = None
        self.hash = hashlib.blake2b(digest_size=16)
        self.left, self.chunked = 0, False

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def connection_lost(self, _):
        self.lost = True
        self.writable.set()

    def data_received(self, data):
        # A long body of known length is hashed as it comes, without a copy.
        if self.head and not self.chunked and not self.buffer and self.left > len(data):
            self.hash.update(data)
            self.left -= len(data)
            return
        self.buffer += data
        while self.step():
            pass

    def step(self):
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.head = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            del self.buffer[: end + 4]
            fields = dict(line.lower().split(": ", 1) for line in self.head[1:] if ": " in line)
            self.chunked = "chunked" in fields.get("transfer-encoding", "")
            self.left = int(fields.get("content-length", 0))
            if fields.get("expect"):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.chunked and not self.dechunk():
            return False
        if not self.chunked:
            piece = self.buffer[: self.left]
            self.hash.update(piece)
            self.left -= len(piece)
            del self.buffer[: len(piece)]
            if self.left:
                return False
        self.answer()
        return bool(self.buffer)

    def dechunk(self):
        while True:
            end = self.buffer.find(b"\r\n")
            if end < 0:
                return False
            size = int(bytes(self.buffer[:end]).split(b";")[0], 16)
            if len(self.buffer) < end + 2 + size + 2:
                return False
            self.hash.update(self.buffer[end + 2 : end + 2 + size])
            del self.buffer[: end + 2 + size + 2]
            if size == 0:
                return True

    def answer(self):
        target = self.head[0].split(" ")[1]
        digest = self.hash.hexdigest()
        self.next_request()
        if target.startswith("/bytes/"):
            asyncio.ensure_future(self.send(int(target[7:])))
        else:
            self.transport.write(
                f"HTTP/1.1 200 OK\r\nx-received: {digest}\r\ncontent-length: {len(digest)}\r\n\r\n{digest}".encode()
            )

    async def send(self, size):
        self.transport.write(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        for piece in body(size):
            if self.lost:
                return
            self.transport.write(piece)
            await self.writable.wait()


async def serve(sock, protocol):
    server = await asyncio.get_running_loop().create_server(protocol, sock=sock, backlog=4096)
    await server.serve_forever()


def faulty(sock, fault):
    """A mirror with the fault, on one thread: nothing here takes the processor from what is measured."""
    listener = select.epoll()
    sock.setblocking(False)
    listener.register(sock.fileno(), select.EPOLLIN)
    clients, due = {}, []
    slow = fault == "reads_slowly"
    while True:
        wait = 0.1 if due or slow else 10
        if due:
            wait = max(0.0, min(wait, due[0][0] - time.monotonic()))
        for number, _ in listener.poll(wait):
            if number == sock.fileno():
                accept(sock, fault, clients, listener)
            else:
                ready(clients, number, fault, listener, due)
        while due and due[0][0] <= time.monotonic():
            client = clients.get(due.pop(0)[1])
            if client:
                try:
                    client.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                except OSError:
                    pass
        if slow:
            for number in list(clients):
                drain(clients, number, 1000)


def accept(sock, fault, clients, listener):
    while True:
        try:
            client, _ = sock.accept()
        except OSError:
            return
        if fault == "closes_at_once":
            client.close()
            continue
        client.setblocking(False)
        clients[client.fileno()] = client
        if fault not in ("never_reads", "reads_slowly"):
            listener.register(client.fileno(), select.EPOLLIN)


def drain(clients, number, most):
    """What came, or `None` once it is over."""
    try:
        data = clients[number].recv(most)
    except BlockingIOError:
        return b""
    except OSError:
        data = b""
    if not data:
        clients.pop(number).close()
        return None
    return data


def ready(clients, number, fault, listener, due):
    data = drain(clients, number, 65536)
    if not data:
        return
    client = clients[number]
    try:
        if fault == "answers_late":
            if b"\r\n\r\n" in data:
                due.append((time.monotonic() + 5, number))
        elif fault == "resets_midway":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            clients.pop(number).close()
        elif fault == "endless_answer":
            if b"\r\n\r\n" in data:
                client.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            listener.modify(number, select.EPOLLIN | select.EPOLLOUT)
            client.send(b"10000\r\n" + PATTERN + b"\r\n")
        else:  # garbage; and plain text to whoever asks for TLS
            client.send(b"\x00\x01 this is not what you asked for\r\n\r\n")
    except OSError:
        if number in clients:
            clients.pop(number).close()


class Upstream:
    """One of the servers, in its own process."""

    def __init__(self, fault=None):
        self.fault, self.process, self.held = fault, None, []
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if fault in ("never_reads", "reads_slowly", "blackholed"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        if fault in ("absent", "closed", "no_endpoints", "unresolvable"):
            return
        if fault == "blackholed":
            self.blackhole()
            return
        self.socket.listen(4096)
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()

    def blackhole(self):
        """A full queue of connections that nobody accepts: the kernel drops further SYNs."""
        self.socket.listen(0)
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.port))
            self.held.append(client)
        time.sleep(0.2)

    def run(self):
        # What a faulty mirror does is none of the proxy's time; a healthy one is the primary's twin.
        if self.fault not in (None, "healthy", "flapping"):
            give_way()
        # What it writes to a copy that was cut goes nowhere, as it should.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        if self.fault in (None, "healthy", "flapping"):
            asyncio.run(serve(self.socket, Primary))
        else:
            faulty(self.socket, self.fault)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.join()
        for client in self.held:
            client.close()
        self.socket.close()
