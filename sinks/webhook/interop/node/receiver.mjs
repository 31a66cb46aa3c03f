// A receiver that verifies and parses what it is sent with the libraries that receivers use. It prints its port on a
// line. A request that does not verify or parse is answered with 422 and the reason; GET / returns the events so far, as
// the library wrote them, and DELETE / forgets them. Secrets come in SECRETS (whsec_… for v1, whpk_… for v1a), separated by blanks.
import { createServer } from 'node:http';
import { createPublicKey, verify } from 'node:crypto';
import { HTTP } from 'cloudevents';
import { Webhook } from 'standardwebhooks';

const secrets = (process.env.SECRETS ?? '').split(' ').filter(Boolean);
let events = [];

function check(headers, body) {
  for (const secret of secrets) {
    if (secret.startsWith('whpk_')) checkKey(secret, headers, body);
    else new Webhook(secret).verify(body, headers, { jsonParse: false });
  }
}

// The library knows v1 only.
function checkKey(secret, headers, body) {
  const x = Buffer.from(secret.slice('whpk_'.length), 'base64').toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const good = headers['webhook-signature'].split(' ').some((one) => {
    const [version, signature] = one.split(',');
    return version === 'v1a' && verify(null, Buffer.from(signed), key, Buffer.from(signature, 'base64'));
  });
  if (!good) throw new Error('no v1a signature verifies');
}

function parse(headers, body) {
  if (headers['content-type'] === 'application/x-ndjson') {
    // The library knows no lines; each is a structured event.
    const structured = { 'content-type': 'application/cloudevents+json' };
    return body.trimEnd().split('\n').map((line) => HTTP.toEvent({ headers: structured, body: line }));
  }
  if (!headers['ce-id'] && !headers['content-type'].startsWith('application/cloudevents')) {
    return [{ id: headers['webhook-id'], topic: headers['postrider-topic'], data: body, validate: () => true }]; // no event: the payload
  }
  const parsed = HTTP.toEvent({ headers, body });
  return Array.isArray(parsed) ? parsed : [parsed];
}

function receive(req, res, raw) {
  try {
    const body = raw.toString('utf8');
    check(req.headers, body);
    const received = parse(req.headers, body);
    for (const event of received) event.validate();
    events.push(...received);
    res.writeHead(204).end();
  } catch (err) {
    const details = err.errors ? JSON.stringify(err.errors) : '';
    res.writeHead(422, { 'content-type': 'text/plain' }).end(`${err.message} ${details}`);
  }
}

const server = createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    if (req.method === 'POST') return receive(req, res, Buffer.concat(chunks));
    if (req.method === 'DELETE') events = [];
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(events));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit(0)); // whoever started us has ended
