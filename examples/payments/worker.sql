-- One transaction of a worker: it takes up to fifty tasks, and makes of them as many statements, which \gexec runs. A worker that dies, or hangs in one of
-- them for more than two seconds, has done nothing: PostgreSQL undoes its transaction, and others take its tasks.
BEGIN;
SELECT string_agg(format('SELECT payments.pay(%s, %s)', id, attempt), '; ') FROM postrider.take('payments', 50, '2 seconds') HAVING count(*) > 0 \gexec
COMMIT;
SELECT pg_sleep(0.01);
