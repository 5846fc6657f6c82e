"""The case it was made for: 158 items of 25 rows, 100 at once, 250 ms of work each, loads and DML of a second each.

needs: broker
"""
import json
import os
import statistics
import sys
import time

import bench
import fleet_bench
from support.fleet import assert_target, batch, control, create_target, expected, jobs_of, make_items
from support.scene import Scene

ITEMS, ROWS, WORKERS, WINDOW, WORK_S, STEP_S = 158, 25, 4, 25, 0.25, 1.0
PATH_S = -(-ITEMS // (WORKERS * WINDOW)) * WORK_S + 2 * STEP_S  # two waves of work, a load, the MERGE

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


def one(bq):
    """Seconds, requests and loads of one run, with everything up before it."""
    scene = Scene(bench.FOLDER, bq, os.environ["BQF_BROKERS"])
    create_target(scene)
    scene.create_topics("--partitions", "16")
    program = scene.write("sleeper.py", HANDLER)
    handlers = scene.write("handlers.yaml", json.dumps({"work": {"exec": [sys.executable, str(program)], "window": WINDOW}}))
    for n in range(WORKERS):
        scene.start("bqfleet-worker", *scene.flags, "--handlers-file", handlers, "--name", f"w{n}", "--parallel", str(WINDOW))
    warm, items = make_items(ITEMS, 1000), make_items(ITEMS)
    done = scene.bqfleet("run", batch(scene, warm, "warm"))  # the workers have found each other, the target its permits
    assert done.code == 0, done
    time.sleep(6)  # the permit is back, and nobody waits for it any more
    first, loads = control(bq, "counters")["requests"], len(jobs_of(bq, "load"))
    start = time.monotonic()
    done = scene.bqfleet("run", batch(scene, items), "--output", "json")
    took = time.monotonic() - start
    assert done.code == 0, done
    requests, loads = control(bq, "counters")["requests"] - first, len(jobs_of(bq, "load")) - loads
    assert_target(scene, expected(warm + items, rows_each=ROWS))
    for program in scene.programs:
        program.kill()
    return took, requests, loads


step = str(int(STEP_S * 1000))
bq = fleet_bench.model(bench.FOLDER, "--load-ms", step, "--dml-ms", step)
runs = [one(bq) for _ in range(bench.size(3, 1))]
bq.program.kill()
took, requests, loads = (statistics.median(run[i] for run in runs) for i in range(3))
bench.report("the case, beside work + load + MERGE", took / PATH_S, "x", 1.2, most=True, beside=f"{took:.2f} of {PATH_S:.2f} s, {WORKERS} workers")
bench.report("requests to BigQuery in it", requests, "", 60, most=True)
bench.report("load jobs in it", loads, "", 6, most=True)
