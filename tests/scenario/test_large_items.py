"""Items whose rows outgrow --buffer: they land row by row, in bounded memory, whatever the handler, the uploads and the processes do."""
import pathlib
import sys

import pytest

from support.fleet import (OUTCOME, assert_honest, assert_target, batch, create_target, make_items, no_shards_left, wait_for_log)
from support.processes import wait_for
from support.scene import BIN, RELEASE

SMALL = RELEASE != BIN  # a build whose memory means anything
WIDTH = 40000  # bytes of a row's note

BODY = f"""
for part in range(payload["rows"]):
    yield {{"k": key, "part": part, "v": payload["n"], "note": f"{{key}}/{{part}}/" + "x" * {WIDTH}, "version": 1}}
"""

# A row of each item that has come in turn, and all are done at the end: the worst for one pipe.
ALTERNATING = f"""
import json, os
rest = b""
while chunk := os.read(0, 1 << 20):
    *lines, rest = (rest + chunk).split(b"\\n")
    items = [m for m in map(json.loads, filter(None, lines)) if "item" in m]
    with os.fdopen(os.dup(1), "w") as out:
        for part in range(max([m["payload"]["rows"] for m in items], default=0)):
            for m in items:
                if part < m["payload"]["rows"]:
                    key = m["key"]
                    row = {{"k": key, "part": part, "v": m["payload"]["n"], "note": f"{{key}}/{{part}}/" + "x" * {WIDTH}, "version": 1}}
                    out.write(json.dumps({{"item": m["item"], "row": row}}) + "\\n")
        for m in reversed(items):
            out.write(json.dumps({{"item": m["item"], "done": True}}) + "\\n")
"""


def large_items(*rows):
    return [{**item, "rows": count} for item, count in zip(make_items(len(rows)), rows)]


def rows_expected(items):
    return [{"k": i["k"], "part": part, "v": i["n"], "note": f"{i['k']}/{part}/" + "x" * WIDTH, "version": 1} for i in items for part in range(i["rows"])]


def peak_mb(program):
    """The most memory that the process has had, in MB."""
    for line in pathlib.Path(f"/proc/{program.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"{program.name} has ended")


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel(), broker.address)
    made.bin = RELEASE
    create_target(made)
    made.create_topics("--partitions", "2")
    return made


def run(scene, worker, items, most_mb, timeout=300):
    """The run to its end; the worker stays below most_mb."""
    spec = batch(scene, items, mode="append")
    done = scene.bqfleet("run", spec, timeout=timeout)
    assert done.code == 0, done
    if SMALL:
        assert peak_mb(worker) < most_mb
    assert_target(scene, rows_expected(items))
    scene.wait_all_committed()
    assert_honest(scene.bq)
    no_shards_left(scene)


def test_an_item_of_many_times_the_buffer_lands_in_bounded_memory(scene):
    items = large_items(2500, 1, 3)  # 100 MB, and two small ones
    worker = scene.worker({"work": scene.handler(BODY)}, "--buffer", "8MB", "--linger", "200ms")
    run(scene, worker, items, 32 + 2 * 8)
    assert scene.bq.counters()["sessions"] == 1


def test_a_hundred_large_items_at_once_in_one_child(scene):
    path = scene.write("alternating.py", ALTERNATING)
    handlers = scene.write("handlers.yaml", f"work: {{exec: [{sys.executable}, {path}], window: 100}}\n")
    worker = scene.worker({}, "--handlers-file", handlers, "--buffer", "8MB", "--parallel", "100", "--linger", "200ms")
    run(scene, worker, large_items(*[20] * 100), 32 + 2 * 8)


def test_uploads_ten_times_slower_than_the_handler_hold_it_back(scene):
    scene.bq.fault("PUT /upload", "delay", times=-1, ms=150)
    worker = scene.worker({"work": scene.handler(BODY)}, "--buffer", "8MB", "--parallel", "4", "--linger", "200ms")
    run(scene, worker, large_items(*[200] * 8), 32 + 2 * 8)
    assert scene.bq.counters()["requests"] > 8 * 200 * WIDTH / (1 << 20)


def test_a_worker_killed_in_mid_stream_loses_and_doubles_nothing(scene):
    scene.bq.fault("PUT /upload", "delay", times=-1, ms=100)
    items = large_items(*[150] * 4, *[1] * 40)
    settings = ("--buffer", "4MB", "--parallel", "4", "--linger", "100ms", "--session", "6s")
    first = scene.worker({"work": scene.handler(BODY)}, *settings)
    spec = batch(scene, items, mode="append")
    going = scene.start_bqfleet("run", spec)
    wait_for(lambda: scene.bq.counters()["sessions"] >= 2, 60, "two streams")
    first.kill()
    scene.worker({"work": scene.handler(BODY)}, *settings)
    done = going.wait(200)
    assert done.code == 0, done
    wait_for_log(scene, OUTCOME)
    assert_target(scene, rows_expected(items))
    scene.wait_all_committed()
    assert_honest(scene.bq)
    no_shards_left(scene)
