"""A small worker for subscriptions whose sink is sql:. It takes jobs, does them and commits, all in one transaction: what a job writes and
that it is done are committed together, or neither is. It needs psycopg 3.

    DATABASE_URL=postgres://worker@localhost/shop SUBSCRIPTION=payments python3 sql_worker.py

If this process dies, PostgreSQL undoes the transaction and somebody else takes its jobs at once. SIGTERM lets the job that runs end and gives the rest
of the batch back. Run as many processes as there are shards, 4 by default; more wait.
"""
import os, signal, time
import psycopg
from psycopg.rows import namedtuple_row

URL, SUBSCRIPTION = os.environ["DATABASE_URL"], os.environ.get("SUBSCRIPTION", "payments")
BATCH, POLL, LIMIT = int(os.environ.get("BATCH", "10")), float(os.environ.get("POLL", "0.05")), os.environ.get("LIMIT", "1 minute")
stopping = False


def stop(*_):
    global stopping
    stopping = True


def work(conn, job):
    """Does a job with the transaction's connection. Whatever it raises undoes what it has written, and the job comes again."""
    if "fail" in job.payload and job.attempt <= job.payload["fail"]:
        raise ValueError(f"attempt {job.attempt} fails as asked")
    conn.execute("INSERT INTO effects (id) VALUES (%s)", (job.id,))
    if "seconds" in job.payload:
        time.sleep(job.payload["seconds"])


def batch(conn):
    """One transaction of jobs. Returns how many there were."""
    with conn.transaction(), conn.cursor(row_factory=namedtuple_row) as cursor:
        jobs = cursor.execute("SELECT * FROM postrider.take(%s, %s, %s)", (SUBSCRIPTION, BATCH, LIMIT)).fetchall()
        behind = set()  # jobs that wait behind one of their key that failed
        for job in jobs:
            if job.id in behind:
                continue
            if stopping:
                behind |= park(conn, "give_back", job.id)
                continue
            try:
                with conn.transaction():  # a savepoint
                    work(conn, job)
            except psycopg.OperationalError:
                raise  # the connection, or the time limit: all of it is undone
            except Exception as err:
                behind |= park(conn, "retry", job.id, f"{type(err).__name__}: {err}")
    for job in jobs:  # committed
        print("took", job.id, flush=True)
    return len(jobs)


def park(conn, how, *args):
    marks = ", ".join(["%s"] * (len(args) + 1))
    return set(conn.execute(f"SELECT postrider.{how}({marks})", (SUBSCRIPTION, *args)).fetchone()[0] or [])


def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    print(f"working on {SUBSCRIPTION}", flush=True)
    while not stopping:
        try:
            with psycopg.connect(URL, autocommit=True) as conn:
                while not stopping:
                    if batch(conn) == 0:
                        time.sleep(POLL)
        except psycopg.OperationalError as err:
            print(f"the database: {err}", flush=True)
            time.sleep(1)


main()
