// A small worker for subscriptions whose sink is sql:. It takes jobs, does them and commits, all in one transaction: what a job writes and that it is
// done are committed together, or neither is. It needs the package pg.
//
//     DATABASE_URL=postgres://worker@localhost/shop SUBSCRIPTION=payments node sql-worker.mjs
//
// If this process dies, PostgreSQL undoes the transaction and somebody else takes its jobs at once. SIGTERM lets the job that runs end and gives the
// rest of the batch back. Run as many as there are shards, 4 by default; more wait.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const { DATABASE_URL, SUBSCRIPTION = 'payments', BATCH = '10', POLL = '0.05', LIMIT = '1 minute' } = process.env
let stopping = false
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { stopping = true })

/** Does a job with the transaction's client. Whatever it throws undoes what it has written, and the job comes again. */
async function work(client, job) {
  if (job.payload.fail >= job.attempt) throw new Error(`attempt ${job.attempt} fails as asked`)
  await client.query('INSERT INTO effects (id) VALUES ($1)', [job.id])
  if (job.payload.seconds) await sleep(1000 * job.payload.seconds)
}

/** One transaction of jobs. Returns how many there were. */
async function batch(client) {
  await client.query('BEGIN')
  const { rows } = await client.query('SELECT * FROM postrider.take($1, $2, $3)', [SUBSCRIPTION, Number(BATCH), LIMIT])
  const behind = new Set() // ids of jobs that wait behind one of their key that failed
  for (const job of rows) {
    if (behind.has(job.id)) continue
    if (stopping) {
      await park(client, behind, 'give_back', job.id)
      continue
    }
    await client.query('SAVEPOINT job')
    try {
      await work(client, job)
    } catch (err) {
      await client.query('ROLLBACK TO SAVEPOINT job') // fails if the connection is gone: all of it is undone
      await park(client, behind, 'retry', job.id, String(err))
    }
    await client.query('RELEASE SAVEPOINT job')
  }
  await client.query('COMMIT')
  for (const job of rows) console.log('took', job.id)
  return rows.length
}

async function park(client, behind, how, ...args) {
  const marks = args.map((_, i) => `$${i + 2}`).join(', ')
  const { rows } = await client.query(`SELECT postrider.${how}($1, ${marks}) AS ids`, [SUBSCRIPTION, ...args])
  for (const id of rows[0].ids ?? []) behind.add(id)
}

console.log(`working on ${SUBSCRIPTION}`)
while (!stopping) {
  const client = new pg.Client({ connectionString: DATABASE_URL })
  client.on('error', () => {}) // the next query says it
  try {
    await client.connect()
    while (!stopping) {
      if ((await batch(client)) === 0) await sleep(1000 * Number(POLL))
    }
  } catch (err) {
    console.log(`the database: ${err}`)
    await sleep(1000)
  }
  await client.end().catch(() => {})
}
