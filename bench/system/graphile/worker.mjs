// The worker: node worker.mjs install|work '{"database":…,"webhook":…,"count":…,"settings":{…}}'

import { EventEmitter } from "node:events";
import { openSync, writeSync } from "node:fs";
import { run, runMigrations } from "graphile-worker";
import { Pool } from "undici";

const [, , what, json] = process.argv;
const order = JSON.parse(json);
const preset = { worker: { connectionString: order.database, ...order.settings } };

// Jobs of a task that POSTs, over as many connections as there may be jobs at work.
function post(webhook) {
  const url = new URL(webhook);
  const pool = new Pool(url.origin, { connections: order.settings.concurrentJobs ?? 1 });
  return async (payload) => {
    const response = await pool.request({
      method: "POST",
      path: url.pathname + url.search,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(payload),
    });
    await response.body.dump();
    if (response.statusCode < 200 || response.statusCode > 299) {
      throw new Error(`the webhook answered ${response.statusCode}`);
    }
  };
}

// Jobs of a task that counts. The count is written down as the bench's package system does it.
function count(file) {
  const fd = openSync(file, "w");
  const bytes = Buffer.alloc(8);
  let done = 0, written = 0;
  const write = () => {
    if (done !== written) {
      written = done;
      bytes.writeBigInt64LE(BigInt(done));
      writeSync(fd, bytes, 0, 8, 0);
    }
  };
  setInterval(write, 5);
  process.on("exit", write);
  return async () => { done++; };
}

if (what === "install") {
  await runMigrations({ preset });
} else {
  const events = new EventEmitter();
  // Notifications arrive from here on. The line is what the bench's package child waits for.
  events.once("pool:listen:success", () => console.log("bench-child is ready"));
  const runner = await run({
    preset,
    events,
    noHandleSignals: true,
    parsedCronItems: [],
    taskList: { deliver: order.webhook ? post(order.webhook) : count(order.count) },
  });
  process.once("SIGTERM", () => runner.stop().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
  }));
  await runner.promise;
}
