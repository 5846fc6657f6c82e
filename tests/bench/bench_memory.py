"""Resident memory: a worker without work, a worker at its limits, a coordinator of a million items.

needs: broker
"""
import json
import os
import time

import bench
import fleet_bench

COUNT = bench.size(1_000_000, 20_000)
LARGE = bench.size(3_000, 200)

bq = fleet_bench.model(bench.FOLDER)


def highest(program, ended):
    """The highest resident MB of a program until ended() or its own end."""
    most = 0
    while program.running and not ended():
        try:
            most = max(most, bench.memory_of(program.pid)[1])
        except (OSError, KeyError):
            break
        time.sleep(0.2)
    return most


with fleet_bench.Batch(bq, COUNT) as batch:
    worker = batch.worker()
    worker.wait_for_text("worker started", 60)
    time.sleep(5)
    bench.report("a worker without work", bench.memory_of(worker.pid)[0], "MB", 14, most=True)
    run = batch.scene.start_bqfleet("run", batch.spec(), "--progress", "none", name="run")
    most = highest(run, lambda: False)
    assert run.wait(600).code == 0, run.err
    bench.report(f"the coordinator of {COUNT:,} items that submits them", most, "MB", 64, most=True, beside="22 MB of them compare the keys")

# Items of 20 to 100 KB that nobody works off: what a worker takes and what is fetched ahead is all there.
with fleet_bench.Batch(bq, LARGE) as batch:
    items = batch.scene.folder / f"large-{LARGE}.ndjson"
    with open(items, "w", encoding="ascii") as out:
        for i in range(LARGE):
            out.write(json.dumps({"player_id": f"item-{i}", "text": os.urandom(10_000 + i % 5 * 10_000).hex()}) + "\n")
    spec = batch.scene.spec("large.yaml", batch=f"large-{batch.scene.id}", items={"file": str(items), "key": "player_id"}, job={"handler": "work"},
                            write={"table": batch.scene.table("target"), "mode": "append"})
    assert batch.scene.bqfleet("submit", spec, timeout=300).code == 0
    worker = batch.worker("2s", "--parallel", "20")
    worker.wait_for_text("worker started", 60)
    until = time.monotonic() + bench.size(20, 5)
    most = highest(worker, lambda: time.monotonic() > until)
    bench.report("a worker with a backlog of large items", most, "MB", 32 + 8 + 8, most=True, beside="8 MB of them prefetch, 8 MB items taken")
bq.program.kill()
