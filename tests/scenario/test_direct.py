"""Rows written directly by the workers of a real fleet: in the table while the run goes on, each once, whoever is stopped or killed."""
import collections
import json
import re
import time

import pytest

from support.fleet import assert_honest, assert_target, batch, control, create_target, expected, handler_body, make_items, no_shards_left, summary, target_rows
from support.processes import wait_for

FAST = ("--linger", "50ms", "--session", "6s", "--permit-lease", "4s")
SOON = ("--takeover-after", "1s", "--permit-lease", "4s")
DIRECT = {"via": "direct"}


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel("--load-ms", "20", "--dml-ms", "150"), broker.address)
    create_target(made)
    made.create_topics("--partitions", "8")
    return made


def work(scene, seconds=0.0, extra=""):
    return {"work": scene.handler(handler_body(seconds, extra=extra))}


def jobs(scene):
    """The statements on the target: of shards' cuts, and of the run's."""
    return [j for j in control(scene.bq, "counters")["jobs"] if j["id"].startswith(("bqfleet_direct_", "bqfleet_cut_")) and j["kind"] in ("MERGE", "INSERT")]


def at_once(scene):
    """The most of them that ran at one time."""
    spans = [(j["started_ms"], j["ended_ms"] or 1 << 60) for j in jobs(scene) if j["started_ms"] and not j["error"]]
    return max(sum(start <= at < end for start, end in spans) for at, _ in spans)


def ends_well(scene, rows, permits):
    assert_target(scene, rows)
    effects = collections.Counter(re.fullmatch(r"(.*)_t\d+", j["id"])[1] for j in jobs(scene) if j["state"] == "DONE" and not j["error"])
    assert set(effects.values()) == {1}, effects
    assert at_once(scene) <= permits
    no_shards_left(scene)
    assert_honest(scene.bq)
    return effects


@pytest.mark.parametrize("mode, permits", [("merge", 1), ("append", 2)])
def test_rows_are_in_the_table_long_before_the_end(scene, mode, permits):
    items = make_items(500)
    scene.workers(4, work(scene, 0.1), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, mode=mode, write=DIRECT), "--output", "json", *SOON)
    wait_for(lambda: target_rows(scene), 60, "the first rows")
    assert run.running
    done = run.wait(90)
    assert done.code == 0, done
    effects = ends_well(scene, expected(items), permits)
    assert sum(name.startswith("bqfleet_direct_") for name in effects) > 1
    told = summary(done)
    assert told["inserted"] == len(expected(items)) and len(told["jobs"]) == len(effects)
    scene.wait_all_committed()


def test_of_two_workers_one_is_stopped_beyond_its_lease(scene):
    """With a statement at work, or a permit in its hand: the other one writes on, and what the first does when it wakes changes nothing."""
    items = make_items(400)
    workers = scene.workers(2, work(scene, 0.1), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, mode="append", write=DIRECT | {"permits": 1}), *SOON)
    wait_for(lambda: target_rows(scene), 60, "the first rows")
    workers[0].stop()
    before = len(target_rows(scene))
    wait_for(lambda: len(target_rows(scene)) > before, 90, "the other one's rows")
    workers[0].go_on()
    assert run.wait(120).code == 0
    time.sleep(1)
    ends_well(scene, expected(items), 1)


@pytest.mark.parametrize("what", ["job_slow", "drop_before"])
def test_workers_are_killed_in_the_middle_of_their_increments(scene, what):
    """With their statements at work, or not yet inserted: a coordinator ends what they have cut."""
    items = make_items(150)
    workers = scene.workers(3, work(scene, 0.05), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, mode="append", write=DIRECT), *SOON)
    wait_for(lambda: target_rows(scene), 60, "the first rows")
    scene.bq.fault("bqfleet_direct_", what, times=4, ms=3000)
    time.sleep(1)
    for worker in workers[:2]:
        worker.kill()
    scene.workers(2, work(scene, 0.05), "--parallel", "2", *FAST)
    assert run.wait(120).code == 0
    ends_well(scene, expected(items), 2)


def test_what_is_cancelled_keeps_the_increments_before(scene):
    items = make_items(2000)
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, write=DIRECT), "--output", "json", *SOON)
    wait_for(lambda: target_rows(scene), 60, "the first rows")
    assert scene.bqfleet("cancel", f"batch-{scene.id}").code == 0
    done = run.wait(60)
    assert done.code == 5 and "increments before it are written" in done.err
    rows = target_rows(scene)
    assert 0 < len(rows) < 4000 and len(rows) == summary(done)["inserted"]
    ends_well(scene, rows, 1)


def test_a_worker_that_leaves_in_order_writes_what_it_has_loaded_and_gives_its_permit_back(scene):
    items = make_items(60)
    first = scene.worker(work(scene, 0.02), "--parallel", "2", *FAST[:4], "--permit-lease", "60s")
    run = scene.start_bqfleet("run", batch(scene, items, write=DIRECT), "--takeover-after", "30s")
    wait_for(lambda: target_rows(scene), 60, "the first rows")
    first.terminate()
    assert first.wait(40).code == 0
    scene.worker(work(scene, 0.02), "--parallel", "2", *FAST[:4], "--permit-lease", "60s")
    begun = time.monotonic()
    assert run.wait(90).code == 0
    assert time.monotonic() - begun < 50  # nobody waited for a lease
    ends_well(scene, expected(items), 1)


def test_it_is_the_same_on_the_emulator(fleet):
    """The statements themselves: updates and inserts, in increments."""
    items, gate = make_items(40), fleet.folder / "gate"
    create_target(fleet, expected(items[:10], version=0))
    fleet.create_topics("--partitions", "4")
    last = f"while payload['n'] >= 38 and not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)"
    fleet.workers(2, work(fleet, 0.01, last), "--parallel", "4", "--linger", "50ms")
    run = fleet.start_bqfleet("run", batch(fleet, items, write=DIRECT), "--output", "json")
    wait_for(lambda: len(target_rows(fleet)) > 20, 90, "rows that a worker wrote")
    gate.touch()
    done = run.wait(120)
    assert done.code == 0, done
    assert_target(fleet, expected(items))
    told = summary(done)
    assert (told["inserted"], told["updated"]) == (60, 20) and any("_direct_" in job for job in told["jobs"])
    no_shards_left(fleet)


def test_in_one_process_increments_follow_one_another(embedded):
    items = make_items(60)
    create_target(embedded)
    spec = batch(embedded, items, write=DIRECT, handlers={"work": {"exec": embedded.handler(handler_body(0.02))}})
    done = embedded.bqfleet("run", spec, "--output", "json", "--parallel", "2", "--linger", "50ms", timeout=120)
    assert done.code == 0, done
    assert_target(embedded, expected(items))
    assert len(json.loads(done.out)["jobs"]) > 1
    no_shards_left(embedded)
