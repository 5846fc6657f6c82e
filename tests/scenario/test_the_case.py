"""The case that bqfleet was made for: 158 items of 25 rows, 100 at once, 250 ms of work each, loads and DML of a second."""
import json
import sys
import time

from support.fleet import assert_honest, assert_target, batch, control, create_target, expected, jobs_of, make_items, summary

ITEMS, ROWS, WORKERS, WINDOW = 158, 25, 4, 25

HANDLER = """
import json, sys, threading, time
lock = threading.Lock()
def work(m):
    time.sleep(0.25)
    key, n = m["key"], m["payload"]["n"]
    rows = [{"k": key, "part": p, "v": n * 10 + p, "note": f"{key}/{p}", "version": 1} for p in range(ROWS)]
    with lock:
        sys.stdout.write(json.dumps({"item": m["item"], "rows": rows, "done": True}) + "\\n")
        sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    if "hello" not in message:
        threading.Thread(target=work, args=(message,)).start()
"""


def test_158_items_are_written_by_one_merge(make_scene, bqmodel, broker):
    scene = make_scene(bqmodel("--limits", "--load-ms", "1000", "--dml-ms", "1000"), broker.address)
    create_target(scene)
    scene.create_topics("--partitions", "16")
    program = scene.write("sleeper.py", HANDLER.replace("ROWS", str(ROWS)))
    handlers = scene.write("handlers.yaml", json.dumps({"work": {"exec": [sys.executable, str(program)], "window": WINDOW}}))
    for n in range(WORKERS):
        scene.start("bqfleet-worker", *scene.flags, "--handlers-file", handlers, "--name", f"w{n}", "--parallel", str(WINDOW))
    items = make_items(ITEMS)
    before = time.monotonic()
    done = scene.bqfleet("run", batch(scene, items), "--output", "json")
    took = time.monotonic() - before
    assert done.code == 0, done
    assert_target(scene, expected(items, rows_each=ROWS))
    counters = control(scene.bq, "counters")
    print(f"{took:.1f} s, {len(jobs_of(scene.bq, 'load'))} loads, counters {({k: v for k, v in counters.items() if k != 'jobs'})}")
    assert len(jobs_of(scene.bq, "cut")) == 1
    assert len(jobs_of(scene.bq, "load")) <= 3 * WORKERS
    assert counters["limited"] == 0
    assert summary(done)["failed"] == 0
    assert_honest(scene.bq)
