"""Runs that are paused, resumed, given another parallelism or cancelled while they go on."""
import json
import pathlib
import subprocess

import pytest

from support.fleet import (CANCEL, CUT, MANIFEST, OUTCOME, PARALLEL, PAUSE, RESUME, SEAL, assert_honest, assert_target, batch, control, create_target, expected,
                           handler_body, log_of, make_items, no_shards_left, summary, target_rows, wait_for_log)
from support.processes import alive, wait_for

FAST = ("--linger", "100ms", "--session", "6s")


@pytest.fixture
def model(bqmodel):
    return bqmodel("--load-ms", "30", "--dml-ms", "50")


@pytest.fixture
def scene(make_scene, model, broker):
    made = make_scene(model, broker.address)
    create_target(made)
    made.create_topics("--partitions", "4")
    return made


def work(scene, seconds=0.0, extra=""):
    return {"work": scene.handler(handler_body(seconds, extra=extra))}


def name(scene):
    return f"batch-{scene.id}"


def status(scene):
    return summary(scene.bqfleet("status", name(scene), "--output", "json"))["runs"][0]


def steer(scene, command, *args, code=0):
    done = scene.bqfleet(command, name(scene), *args, "--output", "json")
    assert done.code == code, done
    return summary(done), done.err


def in_flight(scene):
    return sum(w["in_flight"] for w in summary(scene.bqfleet("status", "--output", "json"))["workers"])


def quiet(scene):
    """Waits until nothing is with a handler, and returns how many items are done: it must stay so."""
    wait_for(lambda: in_flight(scene) == 0, 60, "no item with a handler")
    return status(scene)["done"]


def test_a_paused_run_stands_still_until_it_is_resumed(scene):
    items = make_items(400)
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items), "--progress", "plain")
    wait_for_log(scene, MANIFEST, 1)
    said, _ = steer(scene, "pause")
    assert said["paused"] and said["state"] in ("publishing", "working")
    done = quiet(scene)
    assert done < len(items)
    shown = status(scene)
    assert shown["paused"] and "resume" in shown["waits_for"] and "bqfleet resume" in shown["next"]
    said, err = steer(scene, "pause", code=1)
    assert "paused already" in err and said["paused"]
    scene.worker(work(scene), *FAST)  # one that comes now does not start it either
    assert quiet(scene) == done
    assert not steer(scene, "resume")[0]["paused"]
    ended = run.wait(120)
    assert ended.code == 0, ended
    assert "paused" in ended.err
    assert_target(scene, expected(items))
    assert "ended" in steer(scene, "resume", code=1)[1]
    scene.wait_all_committed()


def test_a_run_is_steered_though_no_coordinator_is_there(scene):
    items = make_items(60)
    assert scene.bqfleet("submit", batch(scene, items)).code == 0
    steer(scene, "pause")
    worker = scene.worker(work(scene), *FAST)
    wait_for(lambda: "to be resumed" in json.dumps(summary(scene.bqfleet("status", "--output", "json"))["workers"]), 60, "the worker to wait")
    assert status(scene)["done"] == 0
    worker.kill()
    scene.worker(work(scene), *FAST)
    steer(scene, "resume")
    assert "not paused" in steer(scene, "resume", code=1)[1]
    watched = scene.bqfleet("watch", name(scene))
    assert watched.code == 0, watched
    assert_target(scene, expected(items))


def test_whatever_is_killed_a_pause_and_a_resume_hold(scene):
    items = make_items(300)
    workers = scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, SEAL, 1)
    wait_for_log(scene, MANIFEST, 1)
    command = scene.start_bqfleet("pause", name(scene))
    wait_for_log(scene, PAUSE, 1)
    command.kill()
    run.kill()
    workers[0].kill()
    # The message is in the log; whether it reached the workers is for the next one that looks.
    done = scene.bqfleet("pause", name(scene))
    assert done.code == 1 and "paused already" in done.err, done
    scene.worker(work(scene, 0.02), "--parallel", "2", *FAST)
    wait_for(lambda: in_flight(scene) == 0, 90, "no item with a handler")
    assert status(scene)["done"] < len(items)
    command = scene.start_bqfleet("resume", name(scene))
    wait_for_log(scene, RESUME, 1)
    command.kill()
    watched = scene.bqfleet("watch", name(scene), "--takeover-after", "2s", timeout=120)
    assert watched.code == 0, watched
    assert_target(scene, expected(items))
    assert_honest(scene.bq)


COUNT = """
import fcntl
global high
with open(os.environ["COUNTER"], "a+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write("+")
"""


def crowd(scene, seconds):
    """A handler that notes in a file when it begins and ends an item."""
    counter = scene.folder / "counter"
    counter.write_text("")
    return {"work": scene.handler(f"""
def note(sign):
    with open({str(counter)!r}, "a") as file:
        file.write(sign)
note("+")
time.sleep({seconds})
rows = [{{"k": key, "part": part, "v": payload["n"] * 10 + part, "note": f"{{key}}/{{part}}", "version": params["version"]}} for part in range(2)]
note("-")
return rows
""")}, counter


def highest(text):
    now = most = 0
    for sign in text:
        now += 1 if sign == "+" else -1
        most = max(most, now)
    return most


def test_a_cap_holds_across_the_fleet_and_can_be_lifted(scene):
    items = make_items(300)
    handler, counter = crowd(scene, 0.1)
    assert scene.bqfleet("submit", batch(scene, items)).code == 0
    assert steer(scene, "set", "parallel=2")[0]["parallel"] == 2
    scene.workers(3, handler, "--parallel", "4", *FAST)
    wait_for(lambda: counter.read_text().count("-") >= 20, 90, "20 items")
    assert highest(counter.read_text()) == 2
    assert status(scene)["parallel"] == 2
    assert steer(scene, "set", "parallel=none")[0]["parallel"] is None
    watched = scene.bqfleet("watch", name(scene), timeout=120)
    assert watched.code == 0, watched
    assert highest(counter.read_text()) > 2
    assert_target(scene, expected(items))


def test_a_cap_below_the_number_of_workers_keeps_none_of_them_from_its_items(scene):
    items = make_items(60)
    handler, _ = crowd(scene, 0.02)
    assert scene.bqfleet("submit", batch(scene, items)).code == 0
    steer(scene, "set", "parallel=1")
    scene.workers(3, handler, "--parallel", "2", *FAST)
    watched = scene.bqfleet("watch", name(scene), timeout=120)
    assert watched.code == 0, watched
    assert_target(scene, expected(items))


def test_set_takes_nothing_else(scene):
    for wrong in ("parallel=", "parallel=-1", "parallel=x", "attempts=3", "parallel"):
        done = scene.bqfleet("set", "none", wrong)
        assert done.code == 2, done


def test_a_cancel_stops_handlers_and_loads_while_an_increment_is_still_being_written(scene):
    items = make_items(400)
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, finish={"every": "1s"}))
    wait_for_log(scene, OUTCOME, 1, timeout=90)
    written = len(target_rows(scene))
    assert 0 < written < len(expected(items))
    said, _ = steer(scene, "cancel")
    assert said["state"] == "cancelled"
    ended = run.wait(60)
    assert ended.code == 5, ended
    no_shards_left(scene)
    rows = target_rows(scene)
    keys = {(r["k"], r["part"]) for r in rows}
    assert len(keys) == len(rows) and all(r in expected(items) for r in rows)
    cuts, outcomes = ([k for k, _ in log_of(scene)].count(kind) for kind in (CUT, OUTCOME))
    assert cuts >= outcomes >= 1
    assert_honest(scene.bq)
    scene.wait_all_committed()
