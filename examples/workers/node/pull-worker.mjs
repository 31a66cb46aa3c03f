// A small worker for subscriptions whose sink is pull:. It asks a relay for jobs over HTTP, does them, and says what became of them.
// Only Node.js 20 is needed.
//
//     POSTRIDER_API=http://127.0.0.1:8090 SUBSCRIPTION=mail node pull-worker.mjs
//
// A job comes again if this process dies or is silent for longer than the subscription's worker_ttl, so do nothing that may not be done twice: the
// message's id is the same each time. SIGTERM lets the jobs that run end, for DRAIN seconds, and gives the rest back. NAME has to be this
// process's own: a worker that calls by a name takes over from whoever called by it before. BEAT is a third of worker_ttl, in seconds.
// TOKEN is what a relay with POSTRIDER_API_TOKENS wants to see.
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

const { POSTRIDER_API = 'http://127.0.0.1:8090', SUBSCRIPTION = 'mail', CONCURRENCY = '4', BEAT = '4', DRAIN = '20' } = process.env
const worker = { worker: process.env.NAME ?? `${hostname()}-${process.pid}`, incarnation: randomUUID() }
const headers = { 'content-type': 'application/json', ...(process.env.TOKEN && { authorization: `Bearer ${process.env.TOKEN}` }) }
const take = { from: [{ subscription: SUBSCRIPTION, max: 1 }], wait: '5s' }
const held = new Map() // by token, what we work on: { ref, unwanted, progress }
let stopping = false

/** What work throws when further attempts would not help. */
class Dead extends Error {}

/** Does a job. Whatever it throws is a failure, and the job comes again. It should look at the signal now and then, and end if it is aborted. */
async function work(job, unwanted, progress) {
  const order = job.payload
  if (order.fail >= job.attempt) throw new Error(`attempt ${job.attempt} fails as asked`)
  if (order.dead) throw new Dead(order.dead)
  for (let step = 1; step <= (order.steps ?? 0); step++) {
    await sleep(100, undefined, { signal: unwanted })
    progress(Math.floor((100 * step) / order.steps), `step ${step}`)
  }
  console.log('did', job.id)
}

/** One request. A status that will not pass ends the program. */
async function call(verb, body) {
  const response = await fetch(`${POSTRIDER_API}/api/v1/jobs/${verb}`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ ...worker, ...body }),
    signal: AbortSignal.timeout(30_000),
  })
  if (response.ok) return response.json()
  const problem = `${verb}: ${response.status} ${await response.text()}`
  if (response.status < 500 && ![408, 409, 421, 425, 429].includes(response.status)) {
    console.error(problem)
    process.exit(1)
  }
  throw new Error(problem)
}

/** Makes a request until it is answered. To settle twice is harmless: the token tells. */
async function insist(verb, body) {
  for (let wait = 100; ; wait = Math.min(2 * wait, 5000)) {
    try {
      return await call(verb, body)
    } catch {
      if (stopping && verb === 'take') return { jobs: [] }
      await sleep(wait * (0.5 + Math.random()))
    }
  }
}

async function outcomeOf(job, entry) {
  try {
    await work(job, entry.unwanted.signal, (percent, note) => { entry.progress = { percent, note } })
    return { outcome: 'done' }
  } catch (err) {
    if (err instanceof Dead) return { outcome: 'dead', reason: err.message }
    if (entry.unwanted.signal.aborted) return { outcome: 'release' } // no attempt is counted
    console.error(err)
    return { outcome: 'retry', reason: String(err) }
  }
}

/** One job after the other. The request that settles one brings the next. */
async function runJobs() {
  let jobs = []
  while (!stopping || jobs.length > 0) {
    if (jobs.length === 0) {
      jobs = (await insist('take', take)).jobs
      continue
    }
    const job = jobs.pop()
    const ref = { subscription: job.subscription, id: job.id, token: job.token }
    const entry = { ref, unwanted: new AbortController(), progress: null }
    held.set(job.token, entry)
    const item = { ...ref, ...(stopping ? { outcome: 'release' } : await outcomeOf(job, entry)) }
    const answer = await insist('settle', stopping ? { items: [item] } : { items: [item], take })
    held.delete(job.token)
    if (answer.items[0].answer === 'late') console.log('late', job.id) // somebody else has it: undo what was done, if that matters
    jobs = answer.jobs ?? []
  }
}

/** Says that we live, what we hold and how far it is, and hears what is not wanted any more. */
async function beat() {
  const entries = [...held.values()]
  if (entries.length === 0) return
  const progress = entries.filter((e) => e.progress).map((e) => ({ ...e.ref, ...e.progress }))
  const answer = await call('beat', { holding: entries.map((e) => e.ref), progress }).catch(() => ({}))
  for (const { token } of [...(answer.cancel ?? []), ...(answer.lost ?? [])]) held.get(token)?.unwanted.abort()
}

const beats = setInterval(beat, 1000 * Number(BEAT))
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    stopping = true
    setTimeout(() => held.forEach((e) => e.unwanted.abort()), 1000 * Number(DRAIN)).unref()
    setTimeout(() => process.exit(1), 1000 * (Number(DRAIN) + 10)).unref()
  })
}
console.log(`working on ${SUBSCRIPTION} as ${worker.worker}`)
await Promise.all(Array.from({ length: Number(CONCURRENCY) }, runJobs))
clearInterval(beats)
