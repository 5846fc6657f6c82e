"""The case that bqfleet was made for: 158 items of 25 rows, 100 at once, 250 ms of work each, loads and DML of a second; for each way of writing, and the naive one."""
import json
import sys
import time

from support.fleet import FIELDS, assert_honest, batch, control, create_target, expected, jobs_of, make_items
from support.scene import ROOT

ITEMS, ROWS, WORKERS, WINDOW, WORK_S, STEP_S = 158, 25, 4, 25, 0.25, 1.0
MODEL = ("--limits", "--load-ms", str(int(STEP_S * 1000)), "--dml-ms", str(int(STEP_S * 1000)))
PATH_S = -(-ITEMS // (WORKERS * WINDOW)) * WORK_S + STEP_S  # two waves of work and a load
MERGE, APPEND = {"mode": "merge"}, {"mode": "append"}
SHOWN = {"write": {"via": "worker-tables", "create": {f["name"]: f["type"] for f in FIELDS}}}  # bqfleet makes view and base

# What is said to `batch`, and how long the shortest schedule takes behind work and load: one statement; or, where each worker writes its own rows, one for
# each worker, as many at once as there are permits.
STRATEGIES = {
    "staging merge": (MERGE, STEP_S),
    "staging append": (APPEND, STEP_S),
    "staging replace": ({"mode": "replace"}, STEP_S),
    "staging replace-partitions": ({"mode": "replace-partitions"}, STEP_S),
    "direct merge": (MERGE | {"write": {"via": "direct"}}, WORKERS * STEP_S),
    "direct merge, disjoint": (MERGE | {"write": {"via": "direct", "disjoint": True}}, WORKERS / 2 * STEP_S),
    "direct append": (APPEND | {"write": {"via": "direct"}}, WORKERS / 2 * STEP_S),
    "worker-tables merge": (MERGE | SHOWN, STEP_S),
    "worker-tables append": (APPEND | SHOWN, STEP_S),
}

HANDLER = f"""
import json, sys, threading, time
lock = threading.Lock()
def work(m):
    time.sleep({WORK_S})
    key, n = m["key"], m["payload"]["n"]
    rows = [{{"k": key, "part": p, "v": n * 10 + p, "note": f"{{key}}/{{p}}", "version": 1}} for p in range({ROWS})]
    with lock:
        sys.stdout.write(json.dumps({{"item": m["item"], "rows": rows, "done": True}}) + "\\n")
        sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    if "hello" in message:
        print('{{"ready": true}}', flush=True)
    else:
        threading.Thread(target=work, args=(message,)).start()
"""


def prepare(scene, strategy):
    """Target, topics, workers."""
    if strategy == "staging replace-partitions":
        by_part = {"field": "part", "range": {"start": "0", "end": "100", "interval": "1"}}
        scene.bq.create_table(scene.table("target"), FIELDS, rangePartitioning=by_part)
    elif "worker-tables" not in strategy:
        create_target(scene)
    scene.create_topics("--partitions", "16")
    program = scene.write("sleeper.py", HANDLER)
    handlers = scene.write("handlers.yaml", json.dumps({"work": {"exec": [sys.executable, str(program)], "window": WINDOW}}))
    for n in range(WORKERS):
        scene.start("bqfleet-worker", *scene.flags, "--handlers-file", handlers, "--name", f"w{n}", "--parallel", str(WINDOW))


def counted(scene):
    told = control(scene.bq, "counters")
    told["rejected"] = sum(1 for job in told["jobs"] if job["error"] and job["error"]["reason"] != "stopped")  # a second load of an item may be, by its worker
    told["dml"] = told["merges"] + told["inserts"] + told["deletes"]
    return {name: told[name] for name in ("dml", "updates", "loads", "queries", "requests", "rejected", "limited", "bytes_billed")} | {"cuts": len(jobs_of(scene.bq, "cut"))}


def since(scene, before):
    return {name: value - before[name] for name, value in counted(scene).items()}


def lost_rows(scene, items):
    """Of these, how many are not in the target just as they were made."""
    found = [json.dumps(row, sort_keys=True) for row in control(scene.bq, f"rows?table={scene.table('target')}")]  # of a view, too
    assert len(found) == len(set(found)), "a row is there twice"
    return len({json.dumps(row, sort_keys=True) for row in expected(items, rows_each=ROWS)} - set(found))


def run(scene, strategy, first=0, name="batch"):
    """One run of it: what it cost, and what was lost."""
    items, before = make_items(ITEMS, first), counted(scene)
    spec = batch(scene, items, name, **STRATEGIES[strategy][0])
    start = time.monotonic()
    done = scene.bqfleet("run", spec, "--output", "json", timeout=150)
    took = time.monotonic() - start
    assert done.code == 0, done
    assert_honest(scene.bq)
    return since(scene, before) | {"seconds": took, "lost": lost_rows(scene, items), "told": json.loads(done.out)}


def naive(scene):
    """The same rows without bqfleet: a load and a MERGE for each item."""
    create_target(scene)
    before, start = counted(scene), time.monotonic()
    done = scene.run(sys.executable, ROOT / "tests/programs/naive.py", scene.bq.address, scene.dataset, str(ITEMS), str(ROWS), str(WORKERS * WINDOW),
                     str(WORK_S), timeout=300)
    assert done.code == 0, done
    assert_honest(scene.bq)
    return since(scene, before) | {"seconds": time.monotonic() - start, "lost": lost_rows(scene, make_items(ITEMS)), "told": json.loads(done.out)}
