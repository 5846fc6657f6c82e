"""Several coordinators at one run, stopped, killed, too late: the table is what the log says, and all who watched say the same."""
import collections
import re
import time

import pytest

from support.fleet import (FATAL, MANIFEST, OUTCOME, SEAL, assert_honest, assert_target, batch, control, create_target, expected, handler_body,
                           log_of, make_items, no_shards_left, target_rows, wait_for_log)
from support.log import cancel, manifest, record_of, say
from support.processes import wait_for

FAST = ("--linger", "50ms", "--session", "6s")
SOON = ("--takeover-after", "1s")
FREE = {"permits": 0}  # else what a stopped or killed one holds has to run out first, which takes a minute


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel("--load-ms", "20", "--dml-ms", "50"), broker.address)
    create_target(made)
    made.create_topics("--partitions", "4")
    return made


def work(scene, seconds=0.0, extra=""):
    return {"work": scene.handler(handler_body(seconds, extra=extra))}


def gated(scene, first):
    """Items from `first` on wait until the gate is opened."""
    gate = scene.folder / "gate"
    return gate, work(scene, 0.001, f"while payload['n'] >= {first} and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)")


def jobs(scene, kind="cut", run=""):
    return [j for j in control(scene.bq, "counters")["jobs"] if j["id"].startswith(f"bqfleet_{kind}_{run}")]


def effects(scene, run=""):
    """How many jobs of each cut ended well: {cut: number}."""
    done = [j["id"] for j in jobs(scene, "cut", run) if j["state"] == "DONE" and not j["error"] and j["kind"] in ("MERGE", "INSERT")]
    return collections.Counter(re.fullmatch(r"(.*)_t\d+", job)[1] for job in done)


def ends_well(scene, rows, codes, code=0, name="target"):
    """Row by row, one effect for each cut, all of one opinion, nothing left."""
    assert set(codes.values()) == {code}, codes
    assert_target(scene, rows, name)
    assert all(n == 1 for n in effects(scene).values()), effects(scene)
    no_shards_left(scene)
    assert_honest(scene.bq)


def codes_of(timeout=60, **programs):
    return {name: program.wait(timeout).code for name, program in programs.items()}


def watching(scene, name):
    """`watch`, which has begun to follow the run."""
    watch = scene.start_bqfleet("watch", f"{name}-{scene.id}", "--progress", "plain", *SOON)
    watch.wait_for_text(f"{name}-{scene.id}: ")
    return watch


@pytest.mark.parametrize("mode", ["merge", "append"])
def test_three_that_cut_and_consolidate_at_once(scene, mode):
    items = make_items(150)
    for _ in range(2):
        scene.start_bqfleet("serve", *SOON)
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, mode=mode, finish={"every": "200ms"}), *SOON)
    ends_well(scene, expected(items), codes_of(run=run))
    assert len(effects(scene)) > 1


def test_one_stopped_between_job_and_outcome_wakes_when_all_is_over(scene):
    items = make_items(50)
    scene.bq.fault("bqfleet_cut_", "job_slow", ms=1500)
    scene.worker(work(scene), *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, write=FREE), *SOON)
    wait_for(lambda: jobs(scene), 60, "the consolidation's job")
    run.stop()
    scene.start_bqfleet("serve", *SOON)
    wait_for_log(scene, OUTCOME)
    no_shards_left(scene)
    run.go_on()
    ends_well(scene, expected(items), codes_of(run=run))
    assert len(jobs(scene)) == 1


def test_one_stopped_with_open_cuts_while_another_finishes_the_run(scene):
    items = make_items(60)
    gate, handlers = gated(scene, 20)
    scene.worker(handlers, "--parallel", "8", *FAST)
    scene.bq.fault("bqfleet_cut_", "job_pending", ms=1500)
    run = scene.start_bqfleet("run", batch(scene, items, write=FREE, finish={"every": "200ms"}), *SOON)
    wait_for(lambda: jobs(scene), 60, "the first cut's job")
    run.stop()
    scene.start_bqfleet("serve", *SOON)
    wait_for_log(scene, OUTCOME)
    gate.touch()
    record = record_of(scene, f"batch-{scene.id}")
    wait_for(lambda: any(m.key == f"end/{record['run']}".encode() for m in scene.kafka.read(f"{scene.prefix}batches")), 60, "the run's end")
    run.go_on()
    ends_well(scene, expected(items), codes_of(run=run))
    assert len(effects(scene)) > 1


def test_a_failed_try_is_followed_by_one_other_whoever_slept_on_it(scene):
    items = make_items(40)
    scene.bq.fault("bqfleet_cut_", "job_error", reason="backendError", message="Backend error.")
    scene.worker(work(scene), *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, write=FREE, mode="append"), *SOON)
    wait_for(lambda: any(j["error"] for j in jobs(scene)), 60, "the first try's failure")
    run.stop()
    scene.start_bqfleet("serve", *SOON)
    wait_for_log(scene, OUTCOME)
    no_shards_left(scene)
    run.go_on()
    ends_well(scene, expected(items), codes_of(run=run))
    assert len(jobs(scene)) == 2


def test_a_job_that_is_sent_after_the_clean_up_finds_its_id_taken(scene):
    items = make_items(40)
    scene.bq.fault("bqfleet_cut_", "status", status=503, times=-1)
    scene.worker(work(scene), *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, write=FREE, mode="append"), *SOON)
    wait_for_log(scene, SEAL)
    wait_for(lambda: control(scene.bq, "counters")["faults"] > 0, 60, "an insert that was refused")
    run.stop()
    scene.bq.clear_faults()
    scene.start_bqfleet("serve", *SOON)
    wait_for_log(scene, OUTCOME)
    no_shards_left(scene)
    run.go_on()
    ends_well(scene, expected(items), codes_of(run=run))
    assert len(jobs(scene)) == 1


def test_cancel_against_the_last_manifest(scene):
    items = make_items(12)
    gate, handlers = gated(scene, 11)
    scene.worker(handlers, "--parallel", "12", *FAST)
    scene.start_bqfleet("serve", *SOON)
    ends = set()
    for turn, late in enumerate((0, 0.05, 0.2, 1)):
        name, target = f"race{turn}", f"target{turn}"
        create_target(scene, name=target)
        run = scene.start_bqfleet("run", batch(scene, items, name, table=scene.table(target), mode="append"))
        wait_for(lambda: sum(1 for kind, _ in log_of(scene) if kind == SEAL) == turn + 1, 60, "the seal")
        record = record_of(scene, f"{name}-{scene.id}")
        wait_for(lambda: [k for k, r in log_of(scene, record["run"]) if k == MANIFEST], 60, "a manifest")
        watch = watching(scene, name)
        gate.touch()
        time.sleep(late)
        say(scene, record, cancel("by the test"))
        codes = codes_of(run=run, watch=watch)
        code = codes["run"]
        assert code in (0, 5), codes
        ends_well(scene, expected(items) if code == 0 else [], codes, code, target)
        gate.unlink()
        ends.add(code)
    assert 0 in ends  # after a second all was over


def test_the_command_cancel_against_the_last_manifest(scene):
    items = make_items(12)
    gate, handlers = gated(scene, 11)
    scene.worker(handlers, "--parallel", "12", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST)
    watch = watching(scene, "batch")
    cancelled = scene.start_bqfleet("cancel", f"batch-{scene.id}")
    gate.touch()
    codes = codes_of(run=run, watch=watch)
    code = codes["run"]
    assert cancelled.wait().code == (0 if code == 5 else 1)
    ends_well(scene, expected(items) if code == 0 else [], codes, code)


def test_a_cancel_leaves_the_cuts_before_it(scene):
    items = make_items(30)
    gate, handlers = gated(scene, 20)
    second = scene.folder / "second"
    body = f"while payload['n'] >= 10 and not os.path.exists({str(second)!r}):\n    time.sleep(0.01)\n"
    handlers = work(scene, 0, body + f"while payload['n'] >= 20 and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)")
    scene.worker(handlers, "--parallel", "30", *FAST)
    scene.start_bqfleet("serve", *SOON)
    run = scene.start_bqfleet("run", batch(scene, items, finish={"every": "200ms"}))
    wait_for(lambda: len({row["k"] for row in target_rows(scene)}) == 10, 60, "the first ten, by one cut or more")
    before = len(jobs(scene))
    scene.bq.fault("bqfleet_cut_", "job_slow", ms=2000)
    second.touch()
    wait_for(lambda: len(jobs(scene)) > before, 60, "the job of a cut of the next ten")
    watch = watching(scene, "batch")
    cancelled = scene.bqfleet("cancel", f"batch-{scene.id}")
    assert cancelled.code == 0, cancelled
    gate.touch()
    codes = codes_of(run=run, watch=watch)
    assert set(codes.values()) == {5}, codes
    found = {row["k"] for row in target_rows(scene)}
    assert {i["k"] for i in items[:10]} < found and not {i["k"] for i in items[20:]} & found
    ends_well(scene, expected([i for i in items if i["k"] in found]), codes, 5)


@pytest.mark.parametrize("late", [0, 0.1])
def test_accept_against_cancel(scene, late):
    items = make_items(12)
    scene.worker(work(scene, extra="if payload['n'] == 3:\n    raise ValueError('three')"), *FAST)
    scene.start_bqfleet("serve", *SOON)
    run = scene.bqfleet("run", batch(scene, items, mode="append", job={"attempts": 1}))
    assert run.code == 3, run
    name = f"batch-{scene.id}"
    finish = scene.start_bqfleet("finish", name, "--accept-failed")
    time.sleep(late)
    cancelled = scene.start_bqfleet("cancel", name).wait()
    finished = finish.wait()
    if cancelled.code == 0:
        assert finished.code in (1, 5), finished  # too late to be said, or said too late
        assert "cancelled" in finished.out + finished.err
        ends_well(scene, [], {"cancel": 0})
    else:
        ends_well(scene, expected([i for i in items if i["n"] != 3]), {"finish": finished.code})
        assert cancelled.code == 1, cancelled


def ends_while_a_worker_is_stopped(scene, sleeper):
    """The run is cancelled and cleaned up; then the worker goes on."""
    scene.start_bqfleet("serve", *SOON)
    run = [p for p in scene.programs if p.name.startswith("bqfleet-") and "run" in p.argv][0]
    assert scene.bqfleet("cancel", f"batch-{scene.id}").code == 0
    assert run.wait().code == 5
    no_shards_left(scene)
    sleeper.go_on()
    scene.wait_all_committed()
    assert not [kind for kind, _ in log_of(scene) if kind == FATAL]
    no_shards_left(scene)
    assert "cannot go on" not in sleeper.err
    sleeper.terminate()
    assert sleeper.wait(40).code == 0
    no_shards_left(scene)
    assert target_rows(scene) == []


def test_a_worker_stopped_in_mid_load_wakes_after_the_clean_up(scene):
    scene.bq.fault("bqfleet_load_", "job_slow", ms=1000, times=-1)
    sleeper = scene.worker(work(scene, 0.001), *FAST)
    scene.start_bqfleet("run", batch(scene, make_items(100)))
    wait_for(lambda: jobs(scene, "load"), 60, "a load")
    sleeper.stop()
    ends_while_a_worker_is_stopped(scene, sleeper)


def test_a_worker_stopped_before_its_first_load_leaves_no_table_when_it_wakes(scene):
    scene.bq.fault("/tables?", "status", status=503, times=-1)  # neither made nor listed
    sleeper = scene.worker(work(scene, 0.001), *FAST)
    scene.start_bqfleet("run", batch(scene, make_items(100)))
    wait_for(lambda: control(scene.bq, "counters")["faults"] > 0, 60, "a table that could not be made")
    sleeper.stop()
    scene.bq.clear_faults()
    ends_while_a_worker_is_stopped(scene, sleeper)


def test_every_coordinator_killed_in_its_turn(scene):
    items = make_items(40)
    gates = scene.folder / "gates"  # each file in it lets ten more items through
    gates.mkdir()
    scene.worker(work(scene, 0, f"while payload['n'] >= 10 + 10 * len(os.listdir({str(gates)!r})):\n    time.sleep(0.01)"), "--parallel", "40", *FAST)
    scene.bq.fault("bqfleet_cut_", "job_slow", ms=300, times=-1)
    coordinator = scene.start_bqfleet("run", batch(scene, items, write=FREE, mode="append", finish={"every": "100ms"}))
    wait_for_log(scene, SEAL)
    for turn in range(1, 4):
        wait_for(lambda: len(jobs(scene)) >= turn, 60, f"job {turn}")
        coordinator.kill()
        (gates / str(turn)).touch()
        coordinator = scene.start_bqfleet("serve", *SOON)
    watch = watching(scene, "batch")
    ends_well(scene, expected(items), codes_of(watch=watch))
    assert coordinator.running


def test_more_loads_than_parameters_carry_with_a_coordinator_killed_between_side_table_and_consolidation(scene):
    count, shard = 10_050, "abcdefghij"
    submitted = scene.bqfleet("submit", batch(scene, make_items(count), mode="append"))
    assert submitted.code == 0, submitted
    record = record_of(scene, f"batch-{scene.id}")
    rows = expected(make_items(count), rows_each=1)
    table = f"bqf_{record['run']}_{shard}".replace("-", "_")
    fields = scene.bq.get_table(scene.table("target"))["schema"]["fields"]
    own = [{"name": "bqfleet_item", "type": "INT64"}, {"name": "bqfleet_row", "type": "INT64"}, {"name": "bqfleet_load", "type": "STRING"}]
    staged = [row | {"bqfleet_item": i, "bqfleet_row": 0, "bqfleet_load": f"{shard}-{i:06d}"} for i, row in enumerate(rows)]
    control(scene.bq, "table", {"ref": scene.table(table), "schema": {"fields": fields + own}, "rows": staged})
    scene.bq.fault("POST /bigquery/v2/projects/local/jobs", "status", status=503, times=-1)  # the cut's job; a load is sent elsewhere
    first = scene.start_bqfleet("serve")
    say(scene, record, *(manifest(shard, i, i, 1) for i in range(count)))
    wait_for(lambda: [j for j in jobs(scene, "side") if j["state"] == "DONE"], 60, "the side table's load")
    first.kill()
    scene.bq.clear_faults()
    scene.start_bqfleet("serve")
    watch = scene.start_bqfleet("watch", record["run"])
    wait_for_log(scene, OUTCOME)
    ends_well(scene, rows, codes_of(watch=watch))
    assert len(jobs(scene, "side")) == 1 and len(jobs(scene)) == 1


def test_after_a_run_was_detached_whoever_watches_it_writes_it_at_once(scene):
    items = make_items(30)
    gate, handlers = gated(scene, 20)
    scene.worker(handlers, "--parallel", "30", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, SEAL)
    run.interrupt()
    assert run.wait().code == 130
    watch = scene.start_bqfleet("watch", f"batch-{scene.id}", "--takeover-after", "1h")
    gate.touch()
    ends_well(scene, expected(items), codes_of(watch=watch))


@pytest.fixture
def alone(make_scene, bqmodel):
    """A scene for runs in one process."""
    made = make_scene(bqmodel("--load-ms", "20", "--dml-ms", "50"))
    create_target(made)
    return made


def test_increments_whose_last_items_have_no_rows_are_known_as_written(alone):
    items = make_items(40)
    gate = alone.folder / "gate"
    handlers = work(alone, 0, f"while payload['n'] >= 20 and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nif payload['n'] >= 20:\n    return []")
    spec = batch(alone, items, mode="append", finish={"every": "100ms"}, handlers={"work": {"exec": handlers["work"]}})
    run = ("run", spec, "--run-id", f"twice-{alone.id}", "--linger", "20ms", "--parallel", "40")
    first = alone.start_bqfleet(*run)
    wait_for(lambda: len(target_rows(alone)) == 40, 60, "the rows of the first items")
    gate.touch()
    done = first.wait()
    assert done.code == 0, done
    done = alone.bqfleet(*run)
    assert done.code == 0, done
    ends_well(alone, expected(items[:20]), {"again": done.code})


def test_two_processes_under_one_id_at_once_write_it_once(alone):
    items = make_items(40)
    spec = batch(alone, items, mode="append", finish={"every": "200ms"}, handlers={"work": {"exec": work(alone, 0.05)["work"]}})
    twins = [alone.start_bqfleet("run", spec, "--run-id", f"twins-{alone.id}", "--linger", "20ms", "--parallel", "2") for _ in range(2)]
    done = [twin.wait() for twin in twins]
    assert sorted(d.code for d in done) == [0, 4], done
    ends_well(alone, expected(items), {"winner": 0})
