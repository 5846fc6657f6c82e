"""A fleet on a real broker whose processes are killed, frozen and restarted: the target ends exactly as it must be."""
import os
import threading

import pytest

from support.fleet import (ABANDON, MANIFEST, OUTCOME, SEAL, assert_commits_follow_manifests, assert_honest, assert_target, batch,
                           create_target, expected, handler_body, jobs_of, log_of, make_items, no_shards_left, summary, wait_for_log)
from support.processes import wait_for


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel("--load-ms", "50", "--dml-ms", "100"), broker.address)
    create_target(made)
    made.create_topics("--partitions", "4")
    return made


def work(scene, seconds=0.02, extra=""):
    return {"work": scene.handler(handler_body(seconds, extra=extra))}


FAST = ("--linger", "100ms", "--session", "6s")


def ends_well(scene, run, items):
    done = run.wait(120)
    assert done.code == 0, done
    assert_target(scene, expected(items))
    scene.wait_all_committed()
    assert_honest(scene.bq)
    no_shards_left(scene)
    return done


def test_a_fleet_writes_every_row_once(scene):
    items = make_items(300)
    scene.workers(2, work(scene, 0), *FAST)
    run = scene.start_bqfleet("run", batch(scene, items), "--output", "json")
    done = ends_well(scene, run, items)
    assert summary(done)["done"] == 300
    assert len(jobs_of(scene.bq, "cut")) == 1


def test_a_worker_killed_in_mid_batch_loses_nothing(scene):
    items = make_items(600)
    first, _ = scene.workers(2, work(scene), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 2)
    wait_for(lambda: assert_commits_follow_manifests(scene) > 0, 30, "a commit")
    first.kill()
    assert_commits_follow_manifests(scene)
    wait_for_log(scene, MANIFEST, 6)
    assert_commits_follow_manifests(scene)
    ends_well(scene, run, items)


def test_all_workers_killed_and_new_ones_started(scene):
    items = make_items(600)
    old = scene.workers(2, work(scene), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 2)
    for worker in old:
        worker.kill()
    scene.workers(2, work(scene, 0), *FAST)
    ends_well(scene, run, items)


def test_a_frozen_worker_that_wakes_after_its_session_changes_nothing(scene):
    items = make_items(200)
    sleeper = scene.worker(work(scene, 0.05), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 1)
    sleeper.stop()
    scene.worker(work(scene, 0), *FAST)
    done = run.wait(120)
    assert done.code == 0, done
    sleeper.go_on()
    assert_target(scene, expected(items))
    scene.wait_all_committed()
    sleeper.terminate()
    assert sleeper.wait(40).code == 0
    assert_target(scene, expected(items))


def test_a_drained_worker_hands_back_what_it_had(scene):
    items = make_items(400)
    leaver = scene.worker(work(scene, 0.05), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 1)
    leaver.terminate()
    assert leaver.wait(40).code == 0
    scene.worker(work(scene, 0), *FAST)
    ends_well(scene, run, items)


def test_workers_join_and_leave_while_the_run_goes_on(scene):
    items = make_items(500)
    first = scene.worker(work(scene), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 1)
    second = scene.worker(work(scene), "--parallel", "4", *FAST)
    wait_for_log(scene, MANIFEST, 3)
    first.terminate()
    scene.worker(work(scene), "--parallel", "4", *FAST)
    wait_for_log(scene, MANIFEST, 5)
    second.kill()
    ends_well(scene, run, items)


def test_the_broker_restarted_in_mid_batch(scene, broker):
    items = make_items(400)
    scene.workers(2, work(scene), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 2)
    broker.kill()
    broker.start()
    ends_well(scene, run, items)


def test_a_broker_that_is_gone_is_what_a_run_says_it_waits_for(scene, broker):
    items = make_items(10)
    run = scene.start_bqfleet("run", "--progress", "plain", batch(scene, items))
    wait_for_log(scene, SEAL)
    broker.kill()
    try:
        run.wait_for_text("which does not answer", 60)
    finally:
        broker.start()
    scene.workers(1, work(scene, 0), *FAST)
    ends_well(scene, run, items)


def test_the_same_item_published_twice_is_written_once(scene):
    items = make_items(200)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, SEAL)
    scene.kafka.publish(scene.work_topic, scene.kafka.read(scene.work_topic))
    scene.workers(2, work(scene, 0), *FAST)
    ends_well(scene, run, items)


def test_the_coordinator_killed_while_items_are_worked_on(scene):
    items = make_items(300)
    scene.workers(2, work(scene), "--parallel", "4", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, SEAL)
    run.kill()
    scene.start_bqfleet("serve")
    wait_for_log(scene, OUTCOME)
    assert_target(scene, expected(items))
    scene.wait_all_committed()
    no_shards_left(scene)


def test_the_coordinator_killed_between_job_and_outcome(make_scene, bqmodel, broker):
    scene = make_scene(bqmodel("--load-ms", "50", "--dml-ms", "4000"), broker.address)
    create_target(scene)
    scene.create_topics("--partitions", "4")
    items = make_items(100)
    scene.workers(2, work(scene, 0), *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for(lambda: jobs_of(scene.bq, "cut"), 60, "the consolidation's job")
    run.kill()
    assert not [kind for kind, _ in log_of(scene) if kind == OUTCOME]
    scene.start_bqfleet("serve")
    wait_for_log(scene, OUTCOME, timeout=90)
    assert len(jobs_of(scene.bq, "cut")) == 1
    assert_target(scene, expected(items))
    no_shards_left(scene)


def test_a_submitter_killed_while_publishing_is_abandoned_and_submitted_again(scene):
    items = make_items(300)
    spec = batch(scene, items)
    pipe = scene.folder / "slow.ndjson"
    os.mkfifo(pipe)
    opened, release = threading.Event(), threading.Event()

    def feed():
        with open(pipe, "w", encoding="utf-8") as out:
            out.write((scene.folder / "batch.ndjson").read_text())
            out.flush()
            opened.set()
            release.wait(60)

    feeder = threading.Thread(target=feed)
    feeder.start()
    workers = scene.workers(2, work(scene, 0), *FAST)
    run = scene.start_bqfleet("run", spec, "--set", f"items.file={pipe}")
    assert opened.wait(30)
    wait_for_log(scene, MANIFEST, 1)
    run.kill()
    release.set()
    feeder.join()
    again = scene.bqfleet("submit", spec)
    assert again.code == 5 and "is open" in again.err, again
    coordinator = scene.start_bqfleet("serve", "--abandon-after", "3s")
    wait_for_log(scene, ABANDON)
    assert scene.bq.rows(scene.table("target")) == []
    wait_for(lambda: scene.bqfleet("submit", spec).code == 0, 30, "a second submission")
    wait_for_log(scene, OUTCOME)
    assert_target(scene, expected(items))
    scene.wait_all_committed()
    coordinator.terminate()
    assert coordinator.wait(20).code == 0
    assert all(worker.running for worker in workers)


def test_two_coordinators_consolidate_once(scene):
    items = make_items(200)
    scene.start_bqfleet("serve")
    scene.start_bqfleet("serve")
    scene.workers(2, work(scene, 0), *FAST)
    run = scene.start_bqfleet("run", batch(scene, items))
    ends_well(scene, run, items)
    assert len(jobs_of(scene.bq, "cut")) == 1
