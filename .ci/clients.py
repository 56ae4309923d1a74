"""Language clients against a gateway: what they send comes back, and reaches primary and mirror alike.

Called by .ci/clients, which starts the gateway. Python's own http.client; requests and httpx where they
are installed; node's http and http2 in clients.js.
"""
import collections
import hashlib
import http.client
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import time

primary_port, mirror_port, port, tls_port, ca, node = sys.argv[1:]
seen = {"primary": collections.Counter(), "mirror": collections.Counter()}
lock = threading.Lock()
BODY = os.urandom(1024 * 1024 + 137)


def upstream(name, listen):
    class Echo(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def body(self):
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            return whole

        def answer(self):
            body = self.body()
            with lock:
                seen[name][(self.command, self.path, hashlib.sha256(body).hexdigest())] += 1
            if self.path.startswith("/empty"):
                self.send_response(204)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-method", self.command)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        # Five by default, fewer than the streams that come at once.
        request_queue_size = 256

    server = Server(("127.0.0.1", int(listen)), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def check(what, holds):
    if not holds:
        sys.exit(f"FAILED  {what}")


def http_client():
    context = ssl.create_default_context(cafile=ca)
    for connection in (
        http.client.HTTPConnection("localhost", int(port), timeout=20),
        http.client.HTTPSConnection("localhost", int(tls_port), timeout=20, context=context),
    ):
        for _ in range(3):
            connection.request("GET", "/py?x=1")
            check("GET", connection.getresponse().read() == b"")
        connection.request("POST", "/py", body=BODY)
        check("POST by length", connection.getresponse().read() == BODY)
        connection.request("POST", "/py", body=iter([BODY[:1000], BODY[1000:]]), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})
        check("POST in chunks", connection.getresponse().read() == BODY)
        connection.request("HEAD", "/py")
        response = connection.getresponse()
        check("HEAD", response.read() == b"" and response.getheader("x-method") == "HEAD")
        connection.request("DELETE", "/empty")
        response = connection.getresponse()
        check("204", response.status == 204 and response.read() == b"")
        connection.close()


def requests_client():
    import requests
    with requests.Session() as session:
        session.verify, session.trust_env = ca, False
        for base in (f"http://localhost:{port}", f"https://localhost:{tls_port}"):
            check("GET", session.get(f"{base}/requests", params={"a": "b c"}).status_code == 200)
            check("POST", session.post(f"{base}/requests", data=BODY).content == BODY)
            check("chunks", session.post(f"{base}/requests", data=iter([BODY, b"x"])).content == BODY + b"x")
            check("form", session.put(f"{base}/requests", data={"a": "ö"}).content == b"a=%C3%B6")


def httpx_client():
    import httpx
    context = ssl.create_default_context(cafile=ca)
    for http2 in (False, True):
        with httpx.Client(http2=http2, verify=context, timeout=20, trust_env=False) as client:
            for base in (f"http://localhost:{port}", f"https://localhost:{tls_port}"):
                response = client.get(f"{base}/httpx")
                wanted = "HTTP/2" if http2 and base.startswith("https") else "HTTP/1.1"
                check(f"spoken: {response.http_version}", response.http_version == wanted)
                check("POST", client.post(f"{base}/httpx", content=BODY).content == BODY)
                check("chunks", client.post(f"{base}/httpx", content=iter([BODY, b"x"])).content == BODY + b"x")


def node_client():
    script = os.path.join(os.path.dirname(__file__), "clients.js")
    subprocess.run([node, script, port, tls_port, ca], check=True, timeout=60)


upstream("primary", primary_port)
upstream("mirror", mirror_port)
ran = []
for name, client, module in (
    ("http.client", http_client, "http.client"),
    ("requests", requests_client, "requests"),
    ("httpx with h2", httpx_client, "h2"),
    ("node", node_client, None),
):
    try:
        __import__(module or "json")
    except ImportError:
        print(f"skipped {name}: not installed")
        continue
    if client is node_client and not node:
        print("skipped node: not installed")
        continue
    client()
    ran.append(name)
    print(f"ok      {name}")
for _ in range(200):
    with lock:
        if seen["primary"] == seen["mirror"]:
            break
    time.sleep(0.1)
check(f"copied: {json.dumps([str(seen['primary'] - seen['mirror']), str(seen['mirror'] - seen['primary'])])}",
      seen["primary"] == seen["mirror"] and seen["primary"])
print(f"{sum(seen['primary'].values())} requests, each with primary and mirror alike, from {', '.join(ran)}")
