"""A small worker for subscriptions whose sink is pull:. It asks a relay for jobs over HTTP, does them, and says what became of them. Only
the standard library is needed.

    POSTRIDER_API=http://127.0.0.1:8090 SUBSCRIPTION=mail python3 pull_worker.py

A job comes again if this process dies or is silent for longer than the subscription's worker_ttl, so do nothing that may not be done twice:
the message's id is the same each time. SIGTERM lets the jobs that run end, for DRAIN seconds, and gives the rest back. NAME has to be this
process's own: a worker that calls by a name takes over from whoever called by it before. BEAT is a third of worker_ttl, in seconds. TOKEN is
what a relay with POSTRIDER_API_TOKENS wants to see.
"""
import json, os, random, secrets, signal, socket, threading, time, traceback, urllib.error, urllib.request

API = os.environ.get("POSTRIDER_API", "http://127.0.0.1:8090").rstrip("/")
SUBSCRIPTION = os.environ.get("SUBSCRIPTION", "mail")
WORKER = {"worker": os.environ.get("NAME", f"{socket.gethostname()}-{os.getpid()}"), "incarnation": secrets.token_hex(16)}
CONCURRENCY, BEAT, DRAIN = int(os.environ.get("CONCURRENCY", "4")), float(os.environ.get("BEAT", "4")), float(os.environ.get("DRAIN", "20"))
HEADERS = {"content-type": "application/json"} | ({"authorization": "Bearer " + os.environ["TOKEN"]} if "TOKEN" in os.environ else {})
TAKE = {"from": [{"subscription": SUBSCRIPTION, "max": 1}], "wait": "5s"}

stopping = threading.Event()
held, lock = {}, threading.Lock()  # by token, what we work on: {"job": …, "unwanted": Event, "progress": …}


class Dead(Exception):
    """What work raises when further attempts would not help."""


def work(job, unwanted, progress):
    """Does a job. Whatever it raises is a failure, and the job comes again. It should look at unwanted now and then, and end if it is set."""
    print("begins", job["id"], flush=True)
    order = job["payload"]
    if "fail" in order and job["attempt"] <= order["fail"]:
        raise ValueError(f"attempt {job['attempt']} fails as asked")
    if "dead" in order:
        raise Dead(order["dead"])
    for step in range(order.get("steps", 0)):
        if unwanted.wait(0.1):
            raise InterruptedError("the job is not wanted any more")
        progress(100 * (step + 1) // order["steps"], f"step {step + 1}")
    print("did", job["id"], flush=True)


def call(verb, **body):
    """One request. An error of urllib is one that may pass."""
    data = json.dumps(WORKER | body).encode()
    request = urllib.request.Request(f"{API}/api/v1/jobs/{verb}", data, HEADERS, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def insist(verb, **body):
    """Makes a request until it is answered. To settle twice is harmless: the token tells."""
    for attempt in range(1000):
        try:
            return call(verb, **body)
        except urllib.error.HTTPError as err:
            with err:
                problem = err.read(2000).decode(errors="replace")
            if err.code < 500 and err.code not in (408, 409, 421, 425, 429):
                raise SystemExit(f"{verb}: {err.code} {problem}") from None
        except (OSError, ValueError):
            pass  # nobody is there, or the answer was cut off
        if stopping.wait(random.uniform(0.5, 1) * min(2**attempt / 10, 5)) and verb == "take":
            return {"jobs": []}
        if stopping.is_set():
            time.sleep(0.1)
    raise SystemExit(f"{verb}: no answer")


def outcome_of(job, entry):
    def progress(percent, note=""):
        entry["progress"] = {"percent": percent, "note": note}

    try:
        work(job, entry["unwanted"], progress)
    except Dead as err:
        return {"outcome": "dead", "reason": str(err)}
    except Exception as err:
        if entry["unwanted"].is_set():
            return {"outcome": "release"}  # no attempt is counted
        traceback.print_exc()
        return {"outcome": "retry", "reason": f"{type(err).__name__}: {err}"}
    return {"outcome": "done"}


def run_jobs():
    """One job after the other. The request that settles one brings the next."""
    jobs = []
    while not stopping.is_set() or jobs:
        if not jobs:
            jobs = insist("take", **TAKE)["jobs"]
            continue
        job = jobs.pop()
        ref = {key: job[key] for key in ("subscription", "id", "token")}
        entry = {"ref": ref, "unwanted": threading.Event(), "progress": None}
        with lock:
            held[job["token"]] = entry
        item = ref | ({"outcome": "release"} if stopping.is_set() else outcome_of(job, entry))
        answer = insist("settle", items=[item], **({} if stopping.is_set() else {"take": TAKE}))
        with lock:
            del held[job["token"]]
        if answer["items"][0]["answer"] == "late":
            print("late", job["id"], flush=True)  # somebody else has it: undo what was done, if that matters
        jobs = answer.get("jobs") or []


def beat():
    """Says that we live, what we hold and how far it is, and hears what is not wanted any more."""
    while True:
        time.sleep(BEAT)
        with lock:
            entries = list(held.values())
        if not entries:
            continue
        progress = [e["ref"] | e["progress"] for e in entries if e["progress"]]
        try:
            answer = call("beat", holding=[e["ref"] for e in entries], progress=progress)
        except (OSError, ValueError):
            continue
        for ref in (answer.get("cancel") or []) + (answer.get("lost") or []):
            with lock:
                entry = held.get(ref["token"])
            if entry:
                entry["unwanted"].set()


def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(target=beat, daemon=True).start()
    threads = [threading.Thread(target=run_jobs, daemon=True) for _ in range(CONCURRENCY)]
    for t in threads:
        t.start()
    print(f"working on {SUBSCRIPTION} as {WORKER['worker']}", flush=True)
    while not stopping.wait(0.5) and any(t.is_alive() for t in threads):
        pass
    patience = time.monotonic() + DRAIN
    for t in threads:
        t.join(max(0, patience - time.monotonic()))
    with lock:
        for entry in held.values():
            entry["unwanted"].set()
    for t in threads:
        t.join(5)


main()
