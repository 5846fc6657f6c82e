"""The DML semaphore between real processes: one statement at a time on a target, whoever is stopped or killed; and the command that shows it."""
import json
import re
import time

import pytest

from support.fleet import (MANIFEST, assert_honest, assert_target, batch, control, create_target, expected, handler_body, make_items, no_shards_left,
                           wait_for_log)
from support.processes import wait_for

FAST = ("--linger", "50ms", "--session", "6s")
LEASE = ("--permit-lease", "4s")


@pytest.fixture
def make(make_scene, bqmodel, broker):
    def start(*flags):
        made = make_scene(bqmodel(*(flags or ("--load-ms", "20", "--dml-ms", "300"))), broker.address)
        create_target(made)
        made.create_topics("--partitions", "4")
        made.workers(1, {"work": made.handler(handler_body(0))}, *FAST)
        return made
    return start


def guarded(scene):
    """The statements that changed the target: [(start, end)] by time, milliseconds."""
    found = [j for j in control(scene.bq, "counters")["jobs"] if j["table"] == "target" and j["kind"] in ("MERGE", "INSERT", "DELETE")]
    return sorted((j["started_ms"], j["ended_ms"]) for j in found if j["started_ms"])


def assert_one_at_a_time(scene):
    spans = guarded(scene)
    for (_, end), (start, _) in zip(spans, spans[1:]):
        assert end <= start, spans


def permits(scene, verb, *args, **more):
    return scene.run("bqfleet", "permits", verb, f"local.{scene.table('target')}", *args, timeout=60, **more)


def test_runs_into_one_table_take_turns(make):
    scene = make()
    runs = [scene.start_bqfleet("run", batch(scene, make_items(20, 100 * n), name=f"b{n}"), *LEASE) for n in range(4)]
    assert [run.wait(90).code for run in runs] == [0] * 4
    assert_target(scene, [row for n in range(4) for row in expected(make_items(20, 100 * n))])
    assert len(guarded(scene)) == 4
    assert_one_at_a_time(scene)
    no_shards_left(scene)
    assert_honest(scene.bq)


def test_a_killed_holder_is_waited_for_and_so_is_its_statement(make):
    scene = make("--load-ms", "20", "--dml-ms", "100")
    scene.bq.fault(match="bqfleet_cut_", kind="job_slow", times=1, ms=6000)
    first = scene.start_bqfleet("run", batch(scene, make_items(10), name="first"), *LEASE)
    wait_for(lambda: guarded(scene), 30, "the first run's statement")
    first.kill()
    second = scene.start_bqfleet("run", batch(scene, make_items(10, 50), name="second"), *LEASE)
    assert second.wait(60).code == 0
    watch = scene.start_bqfleet("watch", f"first-{scene.id}", "--takeover-after", "1s", *LEASE)
    assert watch.wait(60).code == 0
    assert_target(scene, expected(make_items(10)) + expected(make_items(10, 50)))
    assert_one_at_a_time(scene)
    assert_honest(scene.bq)


def test_a_holder_that_was_stopped_beyond_its_lease_changes_nothing(make):
    """Stopped while its statement is not yet inserted, it wakes up when another run has had the permit."""
    scene = make()
    first = scene.start_bqfleet("run", batch(scene, make_items(200), name="first", mode="merge"), *LEASE)
    wait_for(lambda: [j for j in control(scene.bq, "counters")["jobs"] if j["id"].startswith("bqfleet_permit_take")], 30, "a permit that is taken")
    first.stop()
    second = scene.start_bqfleet("run", batch(scene, make_items(10, 500), name="second"), *LEASE)
    assert second.wait(60).code == 0
    first.go_on()
    assert first.wait(60).code == 0
    assert_target(scene, expected(make_items(200)) + expected(make_items(10, 500)))
    assert_one_at_a_time(scene)
    assert_honest(scene.bq)


def test_the_command_makes_shows_and_frees_permits(make):
    scene = make()
    none = permits(scene, "list")
    assert none.code == 1 and "does not exist" in none.err
    made = permits(scene, "init", "--permits", "2")
    assert made.code == 0 and len(re.findall(r"^[01] +free", made.out, re.M)) == 2
    again = permits(scene, "init", "--permits", "2", "--output", "json")
    assert [p["slot"] for p in json.loads(again.out)["permits"]] == [0, 1]
    scene.bq.fault(match="bqfleet_cut_", kind="job_slow", times=1, ms=5000)
    run = scene.start_bqfleet("run", batch(scene, make_items(5)), "--permit-lease", "60s")
    held = wait_for(lambda: next((p for p in json.loads(permits(scene, "list", "--output", "json").out)["permits"] if p["state"] == "held"), None), 30,
                    "a permit that is held")
    assert "coordinator" in held["holder"] and "bqfleet_cut_" in held["job"]
    refused = permits(scene, "free", str(held["slot"]))
    assert refused.code == 1 and "--yes" in refused.err
    freed = permits(scene, "free", str(held["slot"]), "--yes")
    assert freed.code == 0
    assert run.wait(60).code == 0
    assert_target(scene, expected(make_items(5)))


@pytest.mark.parametrize("args, says", [
    (("drop", "d.t"), "none of init, list, watch and free"),
    (("free", "d.t"), "which slot"),
    (("list", "d.t", "0"), "takes one table"),
    (("list", "nonsense"), "is not a table's name"),
    (("list",), "an argument is missing"),
])
def test_wrong_use_is_refused(make_scene, bqmodel, args, says):
    scene = make_scene(bqmodel())
    done = scene.run("bqfleet", "permits", *args, timeout=60)
    assert done.code == 2 and says in done.err
