// A small receiver of webhooks. It verifies signatures as Standard Webhooks says and drops what it has seen already.
//
//     WEBHOOK_SECRET=whsec_… node receiver.mjs
//
// While a secret is being replaced, WEBHOOK_SECRET holds the old and the new one, separated by a blank. ADDR is where to
// listen, 127.0.0.1:8080 by default.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const maxBody = 16 << 20; // bytes
const maxSeen = 10_000; // ids
const tolerance = 5 * 60; // seconds between the sender's clock and ours

const words = (process.env.WEBHOOK_SECRET ?? '').split(/\s+/).filter(Boolean);
if (words.length === 0 || !words.every((word) => /^whsec_[A-Za-z0-9+/]+=*$/.test(word))) {
  console.error('WEBHOOK_SECRET must hold whsec_ and base64, or several of them separated by blanks');
  process.exit(1);
}
const secrets = words.map((word) => Buffer.from(word.slice('whsec_'.length), 'base64'));

// The ids of the latest messages, oldest first. In production this is a table with a unique key on the id, written in the
// transaction of the effect: only then do both happen or none, whatever crashes, and in all replicas.
const seen = new Set();

// verify returns what is wrong with a request, undefined if nothing is. The body is what came, byte for byte.
function verify(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures = '' } = headers;
  if (!id || !/^\d{1,15}$/.test(timestamp)) return 'webhook-id or webhook-timestamp is missing';
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return `webhook-timestamp ${timestamp} is too far from now`;
  const sign = (secret) => createHmac('sha256', secret).update(`${id}.${timestamp}.`, 'latin1').update(body).digest();
  const wanted = secrets.map(sign);
  for (const signature of signatures.split(' ')) {
    if (!signature.startsWith('v1,')) continue; // another scheme
    const got = Buffer.from(signature.slice('v1,'.length), 'base64');
    // timingSafeEqual takes the same time wherever they differ
    if (wanted.some((w) => got.length === w.length && timingSafeEqual(got, w))) return undefined;
  }
  return 'no signature verifies';
}

// split takes batches apart, whose events may come again in another batch. All other requests hold one message.
function split(headers, body) {
  if (!headers['webhook-id'].startsWith('batch_')) return [[headers['webhook-id'], body]];
  const lines = headers['content-type'] === 'application/x-ndjson';
  const events = lines ? body.toString().trimEnd().split('\n').map((line) => JSON.parse(line)) : JSON.parse(body);
  return events.map((event) => [event.id, event]);
}

// receive has its effect once for each id.
function receive(id, message) {
  if (seen.has(id)) return console.log(`duplicate ${id}`);
  console.log(`accepted ${id}`); // the effect
  seen.add(id);
  if (seen.size > maxSeen) seen.delete(seen.values().next().value);
}

const server = createServer((req, res) => {
  const chunks = [];
  let size = 0;
  req.on('data', (chunk) => {
    size += chunk.length;
    if (size <= maxBody) chunks.push(chunk);
    else if (!res.headersSent) res.writeHead(413, { connection: 'close' }).end();
  });
  req.on('end', () => {
    if (res.headersSent) return;
    const body = Buffer.concat(chunks);
    const wrong = verify(req.headers, body);
    if (wrong) {
      console.log(`refused: ${wrong}`);
      return res.writeHead(401).end();
    }
    try {
      for (const [id, message] of split(req.headers, body)) receive(id, message);
      res.writeHead(204).end();
    } catch (err) {
      console.error(err);
      res.writeHead(500).end(); // it comes again
    }
  });
});
const [, host, port] = /^(.*):(\d+)$/.exec(process.env.ADDR ?? '127.0.0.1:8080');
server.listen(Number(port), host, () => console.log(`listening on http://${host}:${server.address().port}`));
