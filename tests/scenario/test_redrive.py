"""Failed items: looked at, and run again in a run of their own, which completes a held run or adds to a written one. Row by row."""
import json

import pytest

from support.fleet import (ADOPTED, SEAL, assert_honest, assert_target, batch, create_target, expected, handler_body, jobs_of, log_of, make_items,
                           no_shards_left, summary, wait_for_log)
from support.processes import wait_for

FAST = ("--linger", "100ms", "--session", "6s")
JSON = ("--output", "json")


def is_bad(item, every=10):
    return item["n"] % every == 3


def good(items):
    return [item for item in items if not is_bad(item)]


class Redrives:
    """A scene whose handler fails some items until they are mended."""

    def __init__(self, scene):
        self.scene, self.mended = scene, scene.folder / "mended"
        create_target(scene)
        scene.create_topics("--partitions", "4")

    def worker(self, extra="", seconds=0.0):
        body = f"if payload['n'] % 10 == 3 and not os.path.exists('{self.mended}'):\n    raise ValueError('not yet ' + key)\n{extra}"
        return self.scene.worker({"work": self.scene.handler(handler_body(seconds, extra=body))}, *FAST)

    def mend(self):
        self.mended.touch()

    def run(self, items, code=3, **parts):
        """A run to its end (or until it is held); its id."""
        done = self.scene.bqfleet("run", batch(self.scene, items, **{"job": {"attempts": 1}} | parts), *JSON)
        assert done.code == code, done
        return summary(done)["run"]

    def redrive(self, run, *args, code=0):
        done = self.scene.bqfleet("redrive", run, *args, *JSON)
        assert done.code == code, done
        return done

    def status(self, run):
        done = self.scene.bqfleet("status", run, *JSON)
        assert done.code == 0, done
        return json.loads(done.out)["runs"][0]

    def serve(self, *args):
        return self.scene.start_bqfleet("serve", *args)

    def items_of(self, run):
        """The work messages of a run."""
        return [m for m in self.scene.kafka.read(self.scene.work_topic) if run.encode() in m.value[:100]]

    def dead(self, *args):
        done = self.scene.bqfleet("dead list", *args)
        assert done.code == 0, done
        return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture
def kit(make_scene, bqmodel, broker):
    yield (made := Redrives(make_scene(bqmodel("--load-ms", "20", "--dml-ms", "40"), broker.address)))
    assert_honest(made.scene.bq)


def test_a_held_run_is_completed_by_its_redrive(make_scene, emulator, broker):
    kit = Redrives(make_scene(emulator, broker.address))
    items = make_items(60)
    kit.worker()  # one for both runs: it gives its loads the same ids in each
    held = kit.run(items)
    assert kit.scene.bq.rows(kit.scene.table("target")) == []
    kit.mend()
    report = summary(kit.redrive(held))
    assert (report["redrives"], report["adopts"], report["items"], report["inserted"]) == (held, True, 6, 120)
    assert_target(kit.scene, expected(items))
    no_shards_left(kit.scene)
    old = kit.status(held)
    assert (old["state"], old["exit"], old["adopted_by"], old["redriven_by"]) == ("adopted", 5, report["run"], report["run"])
    assert kit.scene.bqfleet("watch", held).code == 5
    again = kit.redrive(held, code=1)
    assert report["run"] in again.err


def test_the_new_runs_rows_win_where_order_by_does_not_decide(kit):
    """The item that failed has the lower number: inside one run the other's row would win."""
    items = make_items(8)
    shared = ["return [{'k': 'shared', 'part': 0, 'v': payload['n'], 'note': key, 'version': 1}]"]
    kit.worker(extra="\n".join(shared))
    held = kit.run(items)
    kit.mend()
    kit.redrive(held)
    assert_target(kit.scene, [{"k": "shared", "part": 0, "v": 3, "note": "item-000003", "version": 1}])


def test_failed_items_of_a_written_run_are_added_to_it_once(kit):
    items = make_items(40)
    kit.worker()
    written = kit.run(items, code=0, mode="append", finish={"tolerate": 4})
    assert_target(kit.scene, expected(good(items)))
    kit.mend()
    report = summary(kit.redrive(written))
    assert (report["redrives"], report["adopts"], report["items"]) == (written, False, 4)
    assert_target(kit.scene, expected(items))
    assert "redriven before" in kit.redrive(written, code=1).err
    assert_target(kit.scene, expected(items))


def test_what_failed_in_a_run_that_replaced_the_table_is_added(kit):
    items = make_items(20)
    kit.worker()
    written = kit.run(items, code=0, mode="replace", finish={"tolerate": 2})
    kit.mend()
    kit.redrive(written)
    assert_target(kit.scene, expected(items))


def test_a_dry_run_says_what_would_happen_and_does_nothing(kit):
    kit.worker()
    held = kit.run(make_items(30))
    said = summary(kit.redrive(held, "--dry-run"))
    assert said == {"redrives": held, "adopts": True, "failed": 3, "selected": 3, "expired": 0, "left": 0, "tolerated": 0}
    text = kit.scene.bqfleet("redrive", held, "--dry-run")
    assert text.code == 0 and "Would redrive 3 of the 3 failed items" in text.out, text
    assert [r["run"] for r in json.loads(kit.scene.bqfleet("status", *JSON).out)["runs"]] == [held]
    assert kit.status(held)["state"] == "held"


def test_a_selection_of_a_held_runs_items_must_say_what_becomes_of_the_rest(kit):
    items = make_items(40)
    slow = "if payload['n'] == 7 and not os.path.exists('{}'):\n    time.sleep(60)".format(kit.mended)
    kit.worker(extra=slow)
    held = kit.run(items, job={"attempts": 1, "timeout": "1s"})
    assert sorted(line["_bqfleet"]["reason"] for line in kit.dead(held)) == ["handler"] * 4 + ["timeout"]
    kit.mend()
    refused = kit.redrive(held, "--reason", "timeout", code=1)
    assert "--accept-rest" in refused.err and kit.status(held)["state"] == "held"
    assert "none of them is meant" in kit.redrive(held, "--reason", "crash", "--accept-rest", code=1).err
    assert "none of them is meant" in kit.redrive(held, "--until", "1h", "--accept-rest", code=1).err
    report = summary(kit.redrive(held, "--reason", "timeout", "--since", "1h", "--accept-rest"))
    assert (report["items"], report["left_failed"]) == (1, 4)
    assert_target(kit.scene, expected(good(items)))


def test_a_selection_within_the_tolerance_needs_no_more_words(kit):
    items = make_items(40)
    kit.worker()
    held = kit.run(items, finish={"tolerate": 3})
    kit.mend()
    report = summary(kit.redrive(held, "--key", "item-000013"))
    assert (report["items"], report["left_failed"]) == (1, 3)
    assert_target(kit.scene, expected(good(items) + [items[13]]))


def test_items_of_a_written_run_are_redriven_in_parts(kit):
    items = make_items(30)
    kit.worker()
    written = kit.run(items, code=0, mode="append", finish={"tolerate": 3})
    kit.mend()
    numbers = sorted(line["_bqfleet"]["item"] for line in kit.dead(written))
    kit.redrive(written, "--item", str(numbers[0]))
    assert "redriven before" in kit.redrive(written, "--item", str(numbers[0]), code=1).err
    assert summary(kit.redrive(written))["items"] == 2
    assert_target(kit.scene, expected(items))


def test_a_rate_holds_the_items_back(kit):
    kit.worker()
    held = kit.run(make_items(50))
    redrive = kit.scene.start_bqfleet("redrive", held, "--rate", "1/h")
    new = wait_for(lambda: kit.status(held).get("redriven_by"), 60, "the new run")
    wait_for(lambda: kit.items_of(new), 60, "its first item")
    assert len(kit.items_of(new)) == 1
    assert not [m for m in log_of(kit.scene, new) if m[0] == SEAL]
    for command in (("finish", held, "--accept-failed"), ("cancel", held), ("redrive", held)):
        done = kit.scene.bqfleet(*command)
        assert done.code in (1, 5) and new in done.err, done
    redrive.interrupt()
    assert redrive.wait(60).code == 130
    left = kit.status(held)
    assert left["state"] == "held" and "redriven_by" not in left and kit.status(new)["state"] == "cancelled"
    kit.mend()
    kit.redrive(held, "--rate", "100000/s")
    assert_target(kit.scene, expected(make_items(50)))


def test_of_two_redrives_at_once_one_runs_and_the_other_says_so(kit):
    items = make_items(30)
    kit.worker()
    held = kit.run(items)
    kit.mend()
    done = [r.wait(90) for r in [kit.scene.start_bqfleet("redrive", held) for _ in range(2)]]
    codes = sorted(d.code for d in done)
    assert codes in ([0, 5], [0, 1]), done  # 1: it began when the other had ended
    assert_target(kit.scene, expected(items))
    assert sum(1 for kind, _ in log_of(kit.scene) if kind == SEAL) == 2


def test_a_redriver_killed_while_it_publishes_leaves_the_run_held(kit):
    items = make_items(30)
    kit.worker()
    held = kit.run(items)
    kit.mend()
    redrive = kit.scene.start_bqfleet("redrive", held, "--rate", "1/h")
    new = wait_for(lambda: kit.status(held).get("redriven_by"), 60, "the new run")
    wait_for(lambda: kit.items_of(new), 60, "its first item")
    redrive.kill()
    kit.serve("--abandon-after", "2s")
    wait_for(lambda: kit.status(new)["state"] == "abandoned", 60, "the end of the abandoned run")
    assert kit.status(held)["state"] == "held"
    assert kit.scene.bq.rows(kit.scene.table("target")) == []
    kit.redrive(held)
    assert_target(kit.scene, expected(items))


def test_a_redriver_killed_after_the_seal_is_replaced_by_any_coordinator(kit):
    items = make_items(30)
    kit.worker(seconds=0.3)
    held = kit.run(items)
    kit.mend()
    redrive = kit.scene.start_bqfleet("redrive", held)
    wait_for_log(kit.scene, SEAL, 2)
    redrive.kill()
    kit.serve("--takeover-after", "2s")
    watched = kit.scene.bqfleet("watch", f"batch-{kit.scene.id}", *JSON)
    assert watched.code == 0, watched
    assert_target(kit.scene, expected(items))
    no_shards_left(kit.scene)


def test_a_redriver_killed_between_adoption_and_outcome_is_replaced(kit):
    items = make_items(30)
    kit.worker()
    held = kit.run(items)
    kit.mend()
    kit.scene.bq.fault("bqfleet_cut_", "job_slow", ms=2000)
    redrive = kit.scene.start_bqfleet("redrive", held)
    wait_for_log(kit.scene, ADOPTED)
    redrive.kill()
    kit.serve("--takeover-after", "2s")
    watched = kit.scene.bqfleet("watch", f"batch-{kit.scene.id}", *JSON, timeout=120)
    assert watched.code == 0, watched
    assert_target(kit.scene, expected(items))
    assert len(jobs_of(kit.scene.bq, "cut")) == 1
    assert kit.status(held)["state"] == "adopted"
    no_shards_left(kit.scene)


def test_a_redrive_that_is_held_is_redriven_with_all_before_it(kit):
    items = make_items(40)
    second = kit.scene.folder / "second"
    kit.worker(extra=f"if payload['n'] == 13 and not os.path.exists('{second}'):\n    raise ValueError('still')")
    held = kit.run(items)
    kit.mend()
    middle = summary(kit.redrive(held, code=3))["run"]
    assert kit.status(held)["state"] == "held" and kit.status(middle)["redrives"] == held
    second.touch()
    assert middle in kit.redrive(held, code=5).err
    last = summary(kit.redrive(middle))
    assert (last["redrives"], last["items"]) == (middle, 1)
    assert_target(kit.scene, expected(items))
    assert kit.status(held)["adopted_by"] == kit.status(middle)["adopted_by"] == last["run"]
    no_shards_left(kit.scene)


def test_a_held_redrive_that_is_accepted_writes_both(kit):
    items = make_items(30)
    second = kit.scene.folder / "second"
    kit.worker(extra=f"if payload['n'] == 13 and not os.path.exists('{second}'):\n    raise ValueError('still')")
    held = kit.run(items)
    kit.mend()
    middle = summary(kit.redrive(held, code=3))["run"]
    accepted = kit.scene.bqfleet("finish", middle, "--accept-failed", *JSON)
    assert accepted.code == 0, accepted
    assert_target(kit.scene, expected([item for item in items if item["n"] != 13]))
    assert kit.status(held)["adopted_by"] == middle


def test_a_redrive_that_is_cancelled_leaves_the_held_run_to_be_decided(kit):
    items = make_items(30)
    busy = kit.scene.folder / "busy"
    kit.worker(extra=f"while os.path.exists('{busy}'):\n    time.sleep(0.05)")
    held = kit.run(items)
    kit.mend()
    busy.touch()
    redrive = kit.scene.start_bqfleet("redrive", held)
    wait_for_log(kit.scene, SEAL, 2)
    new = kit.status(held)["redriven_by"]
    cancelled = kit.scene.bqfleet("cancel", new)
    busy.unlink()
    assert cancelled.code == 0, cancelled
    assert redrive.wait(60).code == 5
    assert f"redrive {held}" in kit.redrive(new, code=1).err  # which one can be redriven
    assert kit.status(held)["state"] == "held"
    assert kit.scene.bq.rows(kit.scene.table("target")) == []


def test_an_item_whose_message_has_expired_is_named(kit):
    items = make_items(30)
    kit.worker()
    held = kit.run(items)
    kit.mend()
    [first, *_] = [m for m in kit.items_of(held) if b"item-000013" in m.value]
    kit.scene.kafka.delete_before(kit.scene.work_topic, first.partition, first.offset + 1)
    dry = kit.scene.bqfleet("redrive", held, "--dry-run", *JSON)
    assert dry.code == 1 and summary(dry)["expired"] >= 1 and "expired" in dry.err, dry
    done = kit.scene.bqfleet("redrive", held)
    assert done.code == 4 and "has expired" in done.err and "dead list" in done.err, done
    assert kit.status(held)["state"] == "held"
    lines = kit.dead(held)  # the payloads are in `dead` still
    assert sorted(line["n"] for line in lines) == [3, 13, 23]
    accepted = kit.scene.bqfleet("finish", held, "--accept-failed")
    assert accepted.code == 0, accepted
    assert_target(kit.scene, expected(good(items)))


def test_failed_items_are_listed_as_items_to_be_run_again(kit):
    items = make_items(30)
    kit.worker()
    held = kit.run(items)
    lines = kit.dead(held)
    for line in lines:
        about = line.pop("_bqfleet")
        assert (about["run"], about["reason"], about["attempts"]) == (held, "handler", 1) and f"not yet {line['k']}" in about["error"]
        assert about["time_ms"] > 0
    assert sorted(lines, key=lambda line: line["n"]) == [item for item in items if is_bad(item)]
    assert {line["k"] for line in kit.dead()} == {line["k"] for line in lines}  # of all runs
    [one] = kit.dead(held, "--key", "item-000013")
    number = one["_bqfleet"]["item"]
    assert [line["n"] for line in kit.dead(held, "--item", str(number))] == [13]
    assert kit.dead(held, "--since", "2999-01-01") == [] and len(kit.dead(held, "--until", "2999-01-01T00:00:00Z")) == 3
    text = kit.scene.bqfleet("dead list", held, "--output", "text")
    assert text.code == 0 and len(text.out.splitlines()) == 3 and "item-000013" in text.out, text
    for which in (str(number), "item-000013"):
        shown = kit.scene.bqfleet("dead show", held, which)
        assert shown.code == 0 and "not yet item-000013" in shown.out and '"n":13' in shown.out.replace(" ", ""), shown
    assert summary(kit.scene.bqfleet("dead show", held, str(number), *JSON))["n"] == 13
    assert kit.scene.bqfleet("dead show", held, "item-000012").code == 1
    for wrong in (("dead", "look"), ("dead", "show", held), ("dead", "list", held, "--since", "yesterday"), ("redrive", held, "--rate", "fast"),
                  ("dead", "list", held, "--item", "x")):
        assert kit.scene.bqfleet(*wrong).code == 2, wrong


def test_what_dead_has_lost_comes_from_the_queue(kit):
    items = make_items(30)
    kit.worker()
    held = kit.run(items)
    for partition, (low, high) in kit.scene.kafka.watermarks(f"{kit.scene.prefix}dead").items():
        if high > low:
            kit.scene.kafka.delete_before(f"{kit.scene.prefix}dead", partition, high)
    lines = kit.dead(held)
    assert sorted(line["n"] for line in lines) == [3, 13, 23]
    assert all("not yet" in line["_bqfleet"]["error"] for line in lines)
    again = kit.scene.items(lines, "again.ndjson")
    kit.mend()
    accepted = kit.scene.bqfleet("finish", held, "--accept-failed")
    assert accepted.code == 0, accepted
    done = kit.scene.bqfleet("run", kit.scene.folder / "batch.yaml", "--set", f"items.file={again}")
    assert done.code == 0, done
    assert_target(kit.scene, expected(items))


def test_runs_that_cannot_be_redriven_say_why(kit):
    kit.worker()
    assert kit.scene.bqfleet("redrive", "nobody").code == 2
    clean = kit.run(good(make_items(10)), code=0)
    assert "nothing to redrive" in kit.redrive(clean, code=1).err
    submitted = kit.scene.bqfleet("submit", batch(kit.scene, make_items(10), "other", job={"handler": "nobodys"}))
    assert submitted.code == 0, submitted
    assert "still working" in kit.redrive(f"other-{kit.scene.id}", code=1).err
    assert kit.scene.bqfleet("cancel", f"other-{kit.scene.id}").code == 0
    assert "run the batch again" in kit.redrive(f"other-{kit.scene.id}", code=1).err
