"""An API server's answer to whom RBAC does not let read Secrets, on the port that is given.

Called by .ci/kubernetes, which sends there what is to be refused.
"""
import http.server
import json
import sys

STATUS = json.dumps({
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": 'secrets is forbidden: User "test" cannot list resource "secrets" in API group "" at the cluster scope',
    "reason": "Forbidden",
    "details": {"kind": "secrets"},
    "code": 403,
}).encode()


class Refusal(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(STATUS)))
        self.end_headers()
        self.wfile.write(STATUS)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Refusal).serve_forever()
