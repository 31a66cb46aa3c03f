// Package graphile measures Graphile Worker (npm: graphile-worker), a job queue in PostgreSQL with workers in Node.js.
//
// One message is one job. Its task POSTs the job's payload with undici over connections that stay open, or does nothing but count
// ("no-op"). Producers call the SQL functions add_job and, for batches, add_jobs (page "Adding jobs through SQL").
//
// # Settings
//
// "graphile-worker" has all by default: one job at a time, no local queue, a job completed by a statement of its own.
//
// "graphile-worker tuned" has what its page "Performance" took for its figures: localQueue.size 500, completeJobBatchDelay and
// failJobBatchDelay 0, maxPoolSize 25. The concurrency of 24 there was that of tasks that do nothing; here it is 64, as many as Postrider
// has lanes. Jobs that wait in the local queue need no connection, so that the pool needs no more.
//
// Neither writes a line of log for each job (NO_LOG_SUCCESS, which its own performance test sets).
//
// # Installation
//
// The packages of package-lock.json are installed with npm into a directory of the user's cache, once.
package graphile
