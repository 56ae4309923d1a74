"""What a MirrorPolicy says, seen by the mirror that it is about and by one that it is not about.

Called by .ci/kubernetes, which applied the route and its policy (beyond.sh) and gives the addresses of
primary and mirrors; they are served here.
"""
import http.client
import http.server
import re
import sys
import threading
import time
import urllib.request

front, metrics, port, *addresses = sys.argv[1:]
USERS = [f"user-{number}" for number in range(24)]
# What every copy is told by its request, and what a policy takes off or changes.
SENT = {"host": "shop.example", "authorization": "Bearer secret", "cookie": "a=b", "x-set": "by client",
        "x-add": "by client", "x-remove": "by client"}
heads = {"witness": [], "ruled": [], "plain": []}
# Bytes of a body, by whom and of which path.
read = {}
LAG = 12 << 20
lock = threading.Lock()
# Copies of requests for /slow are answered after it, those for /stalled are read after it.
ended = threading.Event()


def serve(name, address):
    class Pod(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            with lock:
                heads[name].append((self.command, self.path, self.headers))
            if name == "ruled" and self.path.endswith(("/slow", "/stalled")):
                ended.wait(60)
            left = length = int(self.headers.get("content-length", 0))
            while left and (piece := self.rfile.read(min(left, 1 << 20))):
                left -= len(piece)
            read[name, self.path] = length - left
            self.send_response(204)
            self.end_headers()

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass  # A copy that is cut ends in a broken connection.

    threading.Thread(target=Server((address, int(port)), Pod).serve_forever, daemon=True).start()


def request(method, path, user, body=None):
    connection = http.client.HTTPConnection(front, timeout=20)
    connection.request(method, "/policy/" + path, body, {**SENT, "x-user": user})
    status = connection.getresponse().status
    connection.close()
    if status != 204:
        sys.exit(f"FAILED  {method} {path}: {status}")


def got(name, method, path):
    with lock:
        return [head for head in heads[name] if head[:2] == (method, "/policy/" + path)]


def outcomes(outcome, mirror="ruled"):
    text = urllib.request.urlopen(metrics, timeout=20).read().decode()
    lines = re.findall(r"^mirrorgate_mirror_requests_total\{(.*)\} (\d+)", text, re.M)
    return sum(int(count) for labels, count in lines if f'shop/{mirror}:' in labels and f'"{outcome}"' in labels)


def soon(what, holds):
    until = time.monotonic() + 30
    while not holds():
        if time.monotonic() > until:
            sys.exit(f"never: {what}")
        time.sleep(0.02)


def check(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED  {what}: {found}, expected {expected}")


def who_is_sampled():
    """A user's requests are all copied, or none is; returns one whose are."""
    sent = 0
    for turn in ("one", "two", "three"):
        for user in USERS:
            request("GET", turn, user)
            sent += 1
            # One after the other, lest one be skipped since others are in flight.
            soon("its outcome", lambda: outcomes("delivered") + outcomes("skipped_sampled_out") == sent)
    soon("every request of the plain mirror's", lambda: len(got("plain", "GET", "three")) == len(USERS))
    copied = [sorted(head["x-user"] for _, _, head in got("ruled", "GET", turn)) for turn in ("one", "two", "three")]
    check("users of the second turn", copied[1], copied[0])
    check("users of the third turn", copied[2], copied[0])
    if not 0 < len(copied[0]) < len(USERS):
        sys.exit(f"FAILED  {len(copied[0])} of {len(USERS)} users are sampled")
    return copied[0][0]


def heads_are_edited():
    names = ("host", "authorization", "cookie", "x-set", "x-remove")
    for _, _, head in got("ruled", "GET", "one"):
        check("the ruled copy's head", [head[name] for name in names], ["ruled.example", None, None, "by policy", None])
        check("what was added", head.get_all("x-add"), ["by client", "by policy"])
    for _, _, head in got("plain", "GET", "one") + got("witness", "GET", "one"):
        check("everybody else's", [head[name] for name in names], [SENT[name] for name in names])
        check("what they were sent", head.get_all("x-add"), ["by client"])


def methods_are_chosen(user):
    request("DELETE", "other", user)
    request("POST", "chosen", user)
    soon("POST is copied", lambda: len(got("ruled", "POST", "chosen")) == 1)
    soon("DELETE is copied elsewhere", lambda: len(got("plain", "DELETE", "other")) == 1)
    check("DELETE is skipped", (outcomes("skipped_method"), got("ruled", "DELETE", "other")), (1, []))


def copies_are_bounded(user):
    """Three at once where two may be; the two that began run into their time."""
    for _ in range(3):
        request("GET", "slow", user)
    soon("the third is skipped", lambda: outcomes("skipped_in_flight") == 1)
    soon("the others run out of time", lambda: outcomes("failed_timeout") == 2)
    check("copies that began", len(got("ruled", "GET", "slow")), 2)


def a_lag_is_allowed(user):
    """More than lies in the sockets between and the 1 MiB that is allowed otherwise: held until it is read."""
    request("POST", "stalled", user, bytes(LAG))
    ended.set()
    soon("the copy is whole", lambda: read.get(("ruled", "/policy/stalled")) == LAG)
    check("it was not cut", outcomes("cut_lag"), 0)


for name, address in zip(heads, addresses):
    serve(name, address)
user = who_is_sampled()
heads_are_edited()
methods_are_chosen(user)
copies_are_bounded(user)
a_lag_is_allowed(user)
