-- 10,000 payments, each of which is a task for workers that know nothing but SQL. In psql, connected as the owner of the schema postrider
-- (see postrider migrate):
--
--     \i examples/payments/payments.sql
--
-- Then start as many workers as you like, each in a terminal of its own:
--
--     while echo '\i examples/payments/worker.sql'; do :; done | PGAPPNAME=ada psql -Xqt DATABASE
--
-- with a name of its own in place of ada, and watch them, or kill one (eve will hang by herself, once):
--
--     SELECT status, count(*) FROM payments.tasks GROUP BY 1 ORDER BY 1;  \watch 1
--
-- No relay is needed: what a worker takes, does and settles is one transaction. Each payment that is made asks for a receipt, which is a task for workers
-- of another kind: they come for it over HTTP, from a relay that runs with POSTRIDER_API_ADDR.

\if :{?payments} \else \set payments 10000 \endif

CREATE SCHEMA payments;

CREATE TABLE payments.payments (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer integer NOT NULL,
    cents    integer NOT NULL,
    status   text NOT NULL DEFAULT 'requested',
    charges  integer NOT NULL DEFAULT 0,  -- how often the card was charged: never more than once
    paid_by  text,
    task     bigint                       -- the message's id
);
CREATE UNIQUE INDEX ON payments.payments (task);

CREATE TABLE payments.receipts (
    payment bigint PRIMARY KEY REFERENCES payments.payments,
    sent_by text NOT NULL
);

CREATE SEQUENCE payments.patience;  -- which no rollback takes back

-- What has become of each task, and how many tries it has left.
CREATE VIEW payments.tasks AS
SELECT p.id, p.customer, p.cents, p.paid_by, 5 - coalesce(d.attempts, 0) AS tries_left,
       CASE WHEN p.status <> 'requested' THEN p.status ELSE coalesce(d.state, 'waiting') END AS status
FROM payments.payments p LEFT JOIN postrider.parked d ON d.subscription = 'payments' AND d.id = p.task;

-- Makes one payment. The card is charged, the receipt asked for and the task settled in the worker's transaction: all of it or nothing.
CREATE FUNCTION payments.pay(task bigint, attempt integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p      payments.payments;
    worker text := current_setting('application_name');
BEGIN
    SELECT * INTO p FROM payments.payments q WHERE q.task = pay.task;
    IF p.id % 2000 = 0 THEN -- no further try would help
        PERFORM postrider.kill('payments', task, 'the card was reported stolen');
        UPDATE payments.payments SET status = 'declined' WHERE id = p.id;
        PERFORM pg_notify('payments', format('payment %s was declined: a dead letter', p.id));
        RETURN;
    END IF;
    UPDATE payments.payments SET status = 'paid', charges = charges + 1, paid_by = worker WHERE id = p.id;
    PERFORM postrider.enqueue('receipts.wanted', jsonb_build_object('payment', p.id, 'cents', p.cents), key => 'customer-' || p.customer);
    IF worker = 'eve' AND nextval('payments.patience') = 200 THEN
        PERFORM pg_sleep(3600); -- she hangs, once
    END IF;
    IF random() < 0.03 THEN
        RAISE EXCEPTION 'the bank does not answer';
    END IF;
    PERFORM pg_notify('payments', format('payment %s was made by %s', p.id, worker));
EXCEPTION WHEN raise_exception THEN -- which has undone what was done since BEGIN
    PERFORM postrider.retry('payments', task, SQLERRM);
    PERFORM pg_notify('payments', format('payment %s failed: %s; %s tries left', p.id, SQLERRM, 5 - attempt));
END $$;

BEGIN;
SELECT postrider.subscribe('payments', '{payments.requested}', 'sql:', '{"max_attempts": 5, "backoff_initial": "200ms", "backoff_max": "1s"}');
SELECT postrider.subscribe('receipts', '{receipts.wanted}', 'pull:', '{"worker_ttl": "2s", "backoff_initial": "200ms", "backoff_max": "1s"}');
COMMIT;

-- Payments and their tasks are committed together.
INSERT INTO payments.payments (customer, cents, task)
SELECT n % 500, 100 + n % 9900, postrider.enqueue('payments.requested', jsonb_build_object('cents', 100 + n % 9900))
FROM generate_series(1, :payments) n;
