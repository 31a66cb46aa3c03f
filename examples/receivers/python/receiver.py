"""A small receiver of webhooks. It verifies signatures as Standard Webhooks says and drops what it has seen already.

    WEBHOOK_SECRET=whsec_… python3 receiver.py

While a secret is being replaced, WEBHOOK_SECRET holds the old and the new one, separated by a blank. ADDR is where to
listen, 127.0.0.1:8080 by default.
"""
import base64, hashlib, hmac, json, os, threading, time, traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 16 << 20  # bytes
MAX_SEEN = 10_000  # ids
TOLERANCE = 5 * 60  # seconds between the sender's clock and ours

words = os.environ.get("WEBHOOK_SECRET", "").split()
if not words or not all(w.startswith("whsec_") and len(w) > len("whsec_") for w in words):
    raise SystemExit("WEBHOOK_SECRET must hold whsec_ and base64, or several of them separated by blanks")
secrets = [base64.b64decode(w.removeprefix("whsec_"), validate=True) for w in words]

# The ids of the latest messages, oldest first. In production this is a table with a unique key on the id, written in the
# transaction of the effect: only then do both happen or none, whatever crashes, and in all replicas.
seen: dict[str, None] = {}
lock = threading.Lock()


def verify(headers, body: bytes):
    """Returns what is wrong with a request, None if nothing is. The body is what came, byte for byte."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id or not timestamp.isdecimal() or len(timestamp) > 15:
        return "webhook-id or webhook-timestamp is missing"
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return f"webhook-timestamp {timestamp} is too far from now"
    signed = f"{id}.{timestamp}.".encode("latin-1") + body
    wanted = [b"v1," + base64.b64encode(hmac.digest(s, signed, hashlib.sha256)) for s in secrets]
    for signature in headers.get("webhook-signature", "").split():
        # compare_digest takes the same time wherever they differ
        if any(hmac.compare_digest(signature.encode("latin-1"), w) for w in wanted):
            return None
    return "no signature verifies"


def split(headers, body: bytes):
    """Takes batches apart, whose events may come again in another batch. All other requests hold one message."""
    if not headers["webhook-id"].startswith("batch_"):
        return [(headers["webhook-id"], body)]
    lines = headers["content-type"] == "application/x-ndjson"
    return [(e["id"], e) for e in (map(json.loads, body.splitlines()) if lines else json.loads(body))]


def receive(id, message):
    """Has its effect once for each id."""
    with lock:
        if id in seen:
            return print(f"duplicate {id}", flush=True)
        print(f"accepted {id}", flush=True)  # the effect
        seen[id] = None
        if len(seen) > MAX_SEEN:
            del seen[next(iter(seen))]


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    timeout = 120  # seconds without a byte

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True  # the body is still to come
            return self.answer(413 if length.isdecimal() else 411)
        body = self.rfile.read(int(length))
        if wrong := verify(self.headers, body):
            print(f"refused: {wrong}", flush=True)
            return self.answer(401)
        try:
            for id, message in split(self.headers, body):
                receive(id, message)
            self.answer(204)
        except Exception:
            traceback.print_exc()
            self.answer(500)  # it comes again

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


host, _, port = os.environ.get("ADDR", "127.0.0.1:8080").rpartition(":")
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer((host, int(port)), Receiver)
print(f"listening on http://{host}:{server.server_port}", flush=True)
server.serve_forever()
