#!/usr/bin/env python3
"""The backend of the scenario with bodies of 1 GiB: reads a request of any length, answers as many bytes.

    giant.py PORT BYTES
"""

import re
import socket
import sys
import threading

PIECE = bytes(1 << 20)


def serve(stream, size):
    with stream:
        head = b""
        while b"\r\n\r\n" not in head:
            part = stream.recv(1 << 16)
            if not part:
                return
            head += part
        head, _, body = head.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        left = (int(length.group(1)) if length else 0) - len(body)
        while left > 0:
            left -= len(stream.recv(1 << 20)) or left
        # A proxy that only asks whether somebody is there gets a small answer.
        size = size if length else 2
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size)
        for start in range(0, size, len(PIECE)):
            stream.sendall(PIECE[:size - start])


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve, args=(stream, int(sys.argv[2])), daemon=True).start()


if __name__ == "__main__":
    main()
