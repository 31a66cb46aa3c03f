// Package river measures River (github.com/riverqueue/river), a job queue in PostgreSQL with workers in Go.
//
// One message is one job. Its worker POSTs the job's arguments, or does nothing but count ("no-op").
//
// # Settings
//
// "river" has what River's package documentation and its page "Multiple queues" show: MaxWorkers 100, all else by default (FetchCooldown
// 100 ms, FetchPollInterval 1 s). Batches go in with InsertManyTx.
//
// "river tuned" has what River's own benchmark takes (its page "Benchmarks"; cmd/river/riverbench): MaxWorkers 2,000, FetchCooldown 2 ms,
// FetchPollInterval 20 ms. "Throughput is limited by" FetchCooldown, says the documentation of Config. Batches go in with
// InsertManyFastTx, which is COPY (page "Batch job insertion").
//
// Both have the same HTTP client, with at most 64 connections that stay open, as many as Postrider has lanes; in drains with 2,000 workers
// neither 256 nor 2,000 connections made a difference beyond the noise. LISTEN/NOTIFY is on, as by default. The producer's client has the
// settings of the worker's, because FetchCooldown is also how often it notifies.
package river
