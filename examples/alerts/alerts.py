"""Posts Postrider's events to a chat: a receiver of webhooks that turns each into {"text": …}, which the incoming webhooks of most chats take.

    WEBHOOK_SECRET=whsec_… CHAT_URL=https://chat.example/hooks/… python3 alerts.py

and, once, in the database that Postrider runs on:

    SELECT postrider.subscribe('alerts', '{$postrider.dead.>}', 'http://127.0.0.1:8081', '{"secrets": ["env:WEBHOOK_SECRET"]}');

ADDR is where to listen, 127.0.0.1:8081 by default. What the chat does not take, Postrider sends again: nothing is kept here. So an event may be
posted twice if the chat's answer got lost.
"""
import base64, hashlib, hmac, json, os, time, traceback, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 1 << 20  # bytes
TOLERANCE = 5 * 60  # seconds between the sender's clock and ours
TIMEOUT = 10  # seconds for the chat; Postrider waits for 15

word, chat = os.environ.get("WEBHOOK_SECRET", ""), os.environ.get("CHAT_URL", "")
if not word.startswith("whsec_") or len(word) == len("whsec_"):
    raise SystemExit("WEBHOOK_SECRET must be whsec_ and base64")
if not chat.startswith(("http://", "https://")):
    raise SystemExit("CHAT_URL must be the URL of the chat's incoming webhook")
secret = base64.b64decode(word.removeprefix("whsec_"), validate=True)


def genuine(headers, body: bytes):
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or len(timestamp) > 15 or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{id}.{timestamp}.".encode("latin-1") + body
    wanted = b"v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256))
    return any(hmac.compare_digest(s.encode("latin-1"), wanted) for s in headers.get("webhook-signature", "").split())


def text(e):
    """One line for an event, and one for each message that it names. Fields that are not known here are left out."""
    count, name, reason = e.get("count", 1), e.get("subscription", ""), f": {e['reason']}" if e.get("reason") else ""
    match e["event"]:
        case "dead":
            lines = [f"{count} dead letter{'s' if count != 1 else ''} of {name}{reason}"]
            for m in e["messages"]:
                lines.append(f"  {m['id']} {m['topic']}, attempt {m['attempts']}{': ' + m['reason'] if m.get('reason', e.get('reason')) != e.get('reason') else ''}")
            if count > len(e["messages"]):
                lines.append(f"  and {count - len(e['messages'])} more: postrider parked list --state dead")
            return "\n".join(lines)
        case "lost":
            return f"{count} events were not told: there was no room for them"
        case kind:
            return f"{kind} {name}{f', {count} times' if count > 1 else ''}{reason}"


class Alerts(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    timeout = 120  # seconds without a byte

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True  # the body is still to come
            return self.answer(413 if length.isdecimal() else 411)
        body = self.rfile.read(int(length))
        if not genuine(self.headers, body):
            return self.answer(401)
        try:
            post = urllib.request.Request(chat, json.dumps({"text": text(json.loads(body))}).encode(), {"content-type": "application/json"})
            with urllib.request.urlopen(post, timeout=TIMEOUT):
                self.answer(204)
        except urllib.error.HTTPError as e:
            print(f"the chat answers {e.code}", flush=True)
            self.answer(503, e.headers.get("retry-after"))  # it comes again
        except OSError as e:
            print(f"the chat is away: {e}", flush=True)
            self.answer(503)
        except Exception:
            traceback.print_exc()
            self.answer(500)

    def answer(self, status, after=None):
        self.send_response(status)
        if after:
            self.send_header("retry-after", after)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


host, port = os.environ.get("ADDR", "127.0.0.1:8081").rsplit(":", 1)
server = ThreadingHTTPServer((host, int(port)), Alerts)
print(f"listening on http://{host}:{server.server_port}", flush=True)
server.serve_forever()
