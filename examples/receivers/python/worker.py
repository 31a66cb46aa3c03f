"""A small receiver of asynchronous webhooks, for work that takes longer than an HTTP request should. It takes each message
over with a 202, works, and then calls back what came of it. A message may come more than once: drop what is done already by
its webhook-id, as receiver.py shows.

    WEBHOOK_SECRET=whsec_… python3 worker.py

WEBHOOK_SECRET may hold two secrets separated by a blank. ADDR is where to listen, 127.0.0.1:8080 by default. LEASE is how
many seconds we may be silent before the message is sent again.
"""
import base64, hashlib, hmac, json, os, queue, threading, time, traceback, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 16 << 20  # bytes
TOLERANCE = 5 * 60  # seconds between the sender's clock and ours
LEASE = int(os.environ.get("LEASE", "60"))

words = os.environ.get("WEBHOOK_SECRET", "").split()
if not words or not all(w.startswith("whsec_") and len(w) > len("whsec_") for w in words):
    raise SystemExit("WEBHOOK_SECRET must hold whsec_ and base64, or several of them separated by blanks")
secrets = [base64.b64decode(w.removeprefix("whsec_"), validate=True) for w in words]

# What we have leased. In production this is a table: a queue in memory is gone when the process ends. Then too nothing
# is lost: nobody calls back, and the message comes again when its lease is over.
jobs: queue.Queue = queue.Queue(maxsize=16)


def work(message):
    """Does what the message asks for. Whatever it raises is reported as a failure."""
    if "fail" in message:
        raise ValueError(message["fail"])
    time.sleep(message.get("seconds", 0))


def call(url, action, **body):
    """Calls back until there is an answer that counts. Returns whether the attempt was still ours."""
    data = json.dumps(body).encode() if body else b""
    for attempt in range(100):
        request = urllib.request.Request(f"{url}/{action}", data, {"content-type": "application/json"}, method="POST")
        wait = min(2**attempt / 10, 10)
        try:
            with urllib.request.urlopen(request, timeout=30):
                return True
        except urllib.error.HTTPError as err:
            with err:
                if err.code == 410:
                    return False  # too late: the message is settled, or comes again with another URL
                if err.code not in (425, 429) and err.code < 500:
                    raise RuntimeError(f"{action}: {err.code} {err.read(1000).decode(errors='replace')}") from None
                wait = float(err.headers.get("retry-after") or wait)
        except OSError:
            pass  # nobody answered
        time.sleep(wait)
    raise RuntimeError(f"{action}: no answer that counts")


class Heartbeat:
    """Tells every third of the lease that the work goes on."""

    def __init__(self, url):
        self.url, self.done = url, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.done.wait(LEASE / 3):
            if not call(self.url, "heartbeat", lease=LEASE):
                return  # the work is in vain; complete or fail will say so

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def settle(id, url, message):
    try:
        with Heartbeat(url):
            work(message)
    except Exception as err:
        ours = call(url, "fail", reason=str(err), retry_after=30)
        return print(f"failed {id}" if ours else f"over {id}", flush=True)
    print(f"completed {id}" if call(url, "complete") else f"over {id}", flush=True)


def run_jobs():
    while True:
        job = jobs.get()
        try:
            settle(*job)
        except Exception:
            traceback.print_exc()  # it comes again when its lease is over


def verify(headers, body: bytes):
    """Says whether a request is signed with one of our secrets. The body is what came, byte for byte."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id or not timestamp.isdecimal() or len(timestamp) > 15 or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{id}.{timestamp}.".encode("latin-1") + body
    wanted = [b"v1," + base64.b64encode(hmac.digest(s, signed, hashlib.sha256)) for s in secrets]
    signatures = [s.encode("latin-1") for s in headers.get("webhook-signature", "").split()]
    return any(hmac.compare_digest(s, w) for s in signatures for w in wanted)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    timeout = 120  # seconds without a byte

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True  # the body is still to come
            return self.answer(413 if length.isdecimal() else 411)
        body = self.rfile.read(int(length))
        if not verify(self.headers, body):
            return self.answer(401)
        # The URL is not signed, so it is trusted because the request came over TLS or from where it may come.
        url = self.headers.get("postrider-callback")
        if not url or not url.startswith(("https://", "http://")):
            return self.answer(501)  # it was not sent as asynchronous
        try:
            message = json.loads(body)
        except ValueError:
            return self.answer(422)
        try:
            jobs.put_nowait((self.headers["webhook-id"], url, message))
        except queue.Full:  # what waits here for longer than the lease would come again
            return self.answer(503)
        self.answer(202)

    def answer(self, status):
        self.send_response(status)
        if status == 202:
            self.send_header("postrider-lease", str(LEASE))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


for _ in range(4):
    threading.Thread(target=run_jobs, daemon=True).start()
host, _, port = os.environ.get("ADDR", "127.0.0.1:8080").rpartition(":")
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer((host, int(port)), Receiver)
print(f"listening on http://{host}:{server.server_port}", flush=True)
server.serve_forever()
