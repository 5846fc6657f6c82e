"""Runs of a fleet from their submission to their end, and what is done to them meanwhile."""
import json

import pytest

from support.fleet import (FATAL, LOST, MANIFEST, OUTCOME, SEAL, assert_honest, assert_target, batch, control, create_target, expected, handler_body,
                           jobs_of, log_of, make_items, no_shards_left, summary, wait_for_log)
from support.processes import wait_for

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


def test_a_run_of_no_items_is_written(scene):
    done = scene.bqfleet("run", batch(scene, []), "--output", "json")
    assert done.code == 0, done
    assert summary(done)["items"] == 0
    assert scene.bq.rows(scene.table("target")) == []


def test_a_run_of_one_item_is_written(scene):
    scene.worker(work(scene), *FAST)
    items = make_items(1)
    done = scene.bqfleet("run", batch(scene, items))
    assert done.code == 0, done
    assert_target(scene, expected(items))


def test_a_hundred_thousand_items_are_written_once_each(scene):
    from support.scene import RELEASE
    scene.bin = RELEASE
    handler = {"work": " ".join(scene.handler(handler_body(0, rows_each=1)))}
    path = scene.write("handlers.yaml", json.dumps({"work": {"exec": handler["work"], "window": 64}}))
    for _ in range(2):
        scene.start("bqfleet-worker", *scene.flags, "--handlers-file", path, "--linger", "500ms")
    items = make_items(100_000)
    done = scene.bqfleet("run", batch(scene, items), "--output", "json", timeout=300)
    assert done.code == 0, done
    assert_target(scene, expected(items, rows_each=1))
    scene.wait_all_committed()


def test_two_runs_at_once_into_one_table(scene):
    scene.workers(2, work(scene, 0.005), *FAST)
    ours, theirs = make_items(150), make_items(150, first=1000)
    runs = [scene.start_bqfleet("run", batch(scene, ours, "ours")), scene.start_bqfleet("run", batch(scene, theirs, "theirs"))]
    for run in runs:
        done = run.wait(90)
        assert done.code == 0, done
    assert_target(scene, expected(ours + theirs))
    assert_honest(scene.bq)
    no_shards_left(scene)


def test_rows_update_what_is_older_and_leave_what_is_newer(scene):
    items = make_items(20)
    old = expected(items[:10], version=1)
    newer = expected(items[10:12], version=9)
    create_target(scene, old + newer, "mixed")
    scene.worker(work(scene), *FAST)
    done = scene.bqfleet("run", batch(scene, items, table=scene.table("mixed"), version=5), "--output", "json")
    assert done.code == 0, done
    assert_target(scene, expected(items[:10], version=5) + newer + expected(items[12:], version=5), "mixed")
    assert (summary(done)["updated"], summary(done)["inserted"]) == (20, 16)


def test_a_reply_lost_after_the_insert_of_a_load_and_of_the_consolidation(scene):
    for job in ("bqfleet_load_", "bqfleet_cut_"):
        control(scene.bq, "fault", {"match": job, "kind": "lose_reply", "times": 1})
    items = make_items(100)
    scene.worker(work(scene), *FAST)
    done = scene.bqfleet("run", batch(scene, items))
    assert done.code == 0, done
    assert_target(scene, expected(items))
    assert len(jobs_of(scene.bq, "cut")) == 1


def test_a_load_that_fails_once_is_tried_again_under_the_next_id(scene):
    control(scene.bq, "fault", {"match": "bqfleet_load_", "kind": "job_error", "reason": "backendError", "message": "Backend error.", "times": 1})
    items = make_items(50)
    scene.worker(work(scene), *FAST)
    done = scene.bqfleet("run", batch(scene, items))
    assert done.code == 0, done
    assert_target(scene, expected(items))
    assert any(job.endswith("_t1") for job in jobs_of(scene.bq, "load"))


def test_one_row_that_bigquery_rejects_fails_only_its_item(scene):
    items = make_items(1000)
    bad = items[617]["k"]
    extra = f"if key == '{bad}':\n    return [{{'k': key, 'part': 0, 'v': 1, 'note': 'bqmodel-reject', 'version': 1}}]"
    scene.workers(1, work(scene, extra=extra), "--linger", "1s")
    failed = scene.folder / "failed.ndjson"
    done = scene.bqfleet("run", batch(scene, items, finish={"tolerate": 1}), "--failed", failed, "--output", "json", timeout=120)
    assert done.code == 0, done
    assert_target(scene, expected([item for item in items if item["k"] != bad]))
    [line] = failed.read_text().splitlines()
    assert json.loads(line)["k"] == bad
    assert summary(done)["failed"] == 1


def test_failures_hold_the_run_until_it_is_accepted(scene):
    items = make_items(30)
    scene.worker(work(scene, extra="if payload['n'] % 10 == 3:\n    raise ValueError('three')"), *FAST)
    done = scene.bqfleet("run", batch(scene, items, job={"attempts": 2}))
    assert done.code == 3, done
    assert "accept-failed" in done.err
    assert scene.bq.rows(scene.table("target")) == []
    held = scene.bqfleet("status", "--output", "json")
    assert held.code == 0 and '"held"' in held.out, held
    run = json.loads(held.out)["runs"][0]["run"]
    accepted = scene.bqfleet("finish", run, "--accept-failed")
    assert accepted.code == 0, accepted
    assert_target(scene, expected([item for item in items if item["n"] % 10 != 3]))
    no_shards_left(scene)


def test_a_cancelled_run_writes_nothing(scene):
    items = make_items(500)
    scene.worker(work(scene, 0.3), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 1)
    cancelled = scene.bqfleet("cancel", f"batch-{scene.id}", "--reason", "enough")
    assert cancelled.code == 0, cancelled
    done = run.wait(30)
    assert done.code == 5 and "enough" in done.err, done
    assert scene.bq.rows(scene.table("target")) == []
    scene.wait_all_committed()
    no_shards_left(scene)


@pytest.mark.parametrize("mode", ["merge", "append"])
def test_increments_show_rows_while_the_run_goes_on(scene, mode):
    items = make_items(200)
    scene.workers(2, work(scene, 0.05), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, mode=mode, finish={"every": "300ms"}))
    wait_for(lambda: scene.bq.rows(scene.table("target")), 60, "the first increment")
    assert run.running
    done = run.wait(90)
    assert done.code == 0, done
    assert_target(scene, expected(items))
    assert len(jobs_of(scene.bq, "cut")) > 1
    assert_honest(scene.bq)
    no_shards_left(scene)


def test_a_run_repeated_under_its_id_attaches_to_it(scene):
    items = make_items(100)
    scene.worker(work(scene), *FAST)
    spec = batch(scene, items)
    for _ in range(2):
        done = scene.bqfleet("run", spec, "--run-id", f"nightly-{scene.id}", "--output", "json")
        assert done.code == 0, done
        assert summary(done)["run"] == f"nightly-{scene.id}"
    for command in "run", "submit":
        other = scene.bqfleet(command, spec, "--run-id", f"nightly-{scene.id}", "--set", "write.keys=[k]")
        assert other.code == 4 and "is for something else" in other.err, other
    assert_target(scene, expected(items))
    assert len(jobs_of(scene.bq, "cut")) == 1
    assert sum(1 for kind, _ in log_of(scene) if kind == SEAL) == 1


def test_a_second_run_of_an_open_batch_is_refused_or_replaces_it(scene):
    items = make_items(60)
    spec = batch(scene, items)
    assert scene.bqfleet("submit", spec).code == 0
    refused = scene.bqfleet("submit", spec)
    assert refused.code == 5 and "--replace" in refused.err, refused
    scene.worker(work(scene), *FAST)
    done = scene.bqfleet("run", spec, "--replace")
    assert done.code == 0, done
    assert_target(scene, expected(items))


def test_interrupted_the_run_goes_on_without_its_watcher(scene):
    items = make_items(200)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, SEAL)
    run.interrupt()
    done = run.wait(20)
    assert done.code == 130 and "watch" in done.err, done
    scene.worker(work(scene), *FAST)
    scene.start_bqfleet("serve")
    watched = scene.bqfleet("watch", f"batch-{scene.id}")
    assert watched.code == 0, watched
    assert_target(scene, expected(items))


def test_a_handler_nobody_offers_is_said_and_waited_for(scene):
    items = make_items(10)
    run = scene.start_bqfleet("run", batch(scene, items), "--progress", "plain")
    run.wait_for_text('no live worker', 30)
    scene.worker(work(scene), *FAST)
    done = run.wait(60)
    assert done.code == 0, done
    assert_target(scene, expected(items))


def test_a_handler_that_cannot_start_stops_the_run(scene):
    scene.worker({"work": "/no/such/program"}, *FAST)
    done = scene.bqfleet("run", batch(scene, make_items(10)))
    assert done.code == 4 and "/no/such/program" in done.err, done
    assert any(kind == FATAL for kind, _ in log_of(scene))
    assert scene.bq.rows(scene.table("target")) == []


def test_items_gone_from_the_queue_are_lost_and_said(scene):
    items = make_items(40)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, SEAL)
    partition = next(p for p, (low, high) in scene.kafka.watermarks(scene.work_topic).items() if high > low)
    scene.kafka.delete_before(scene.work_topic, partition, scene.kafka.watermarks(scene.work_topic)[partition][1])
    scene.worker(work(scene), *FAST)
    done = run.wait(90)
    assert done.code == 4 and "lost" in done.err, done
    assert any(kind == LOST for kind, _ in log_of(scene))
    assert scene.bq.rows(scene.table("target")) == []


def test_a_log_that_no_longer_reaches_back_makes_the_outcome_unknown(scene):
    items = make_items(20)
    scene.worker(work(scene), *FAST)
    done = scene.bqfleet("run", batch(scene, items))
    assert done.code == 0, done
    submitted = scene.bqfleet("submit", batch(scene, items, "later"))
    assert submitted.code == 0, submitted
    wait_for(lambda: sum(1 for kind, _ in log_of(scene) if kind == SEAL) == 2, 30, "the second seal")
    for partition, (low, high) in scene.kafka.watermarks(f"{scene.prefix}results").items():
        if high > low:
            scene.kafka.delete_before(f"{scene.prefix}results", partition, high)
    watched = scene.bqfleet("watch", f"later-{scene.id}")
    assert watched.code == 4 and "unknown" in watched.err, watched
    cancelled = scene.bqfleet("cancel", f"later-{scene.id}")
    assert cancelled.code == 4 and "unknown" in cancelled.err and "bqfleet_cut_" in cancelled.err, cancelled
    again = scene.bqfleet("run", batch(scene, items, "later"))  # the name is free
    assert again.code == 0, again


def test_the_outcome_is_in_the_log_before_the_shards_go(scene):
    items = make_items(20)
    scene.worker(work(scene), *FAST)
    done = scene.bqfleet("run", batch(scene, items))
    assert done.code == 0, done
    assert sum(1 for kind, _ in log_of(scene) if kind == OUTCOME) == 1
    no_shards_left(scene)
