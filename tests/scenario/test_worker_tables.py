"""Rows in the workers' own tables, shown by a view while the run goes on, and compacted behind it: each once, whoever is killed."""
import time

import pytest

from support.fleet import assert_honest, batch, control, expected, handler_body, make_items, no_shards_left, summary
from support.processes import wait_for

FAST = ("--linger", "50ms", "--session", "6s")
SOON = ("--takeover-after", "1s")
COLUMNS = {"k": "STRING REQUIRED", "part": "INT64 REQUIRED", "v": "INT64", "note": "STRING", "version": "INT64"}
TABLES = {"via": "worker-tables", "create": COLUMNS}
EVERY = {"every": "1s"}


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel("--load-ms", "20", "--dml-ms", "150"), broker.address)
    made.create_topics("--partitions", "8")
    return made


def work(scene, seconds=0.0, extra=""):
    return {"work": scene.handler(handler_body(seconds, extra=extra))}


def view(scene):
    return scene.bq.get_table(scene.table("target"))


def shown(scene):
    """What a reader of the view sees, in the model."""
    if view(scene) is None:
        return []
    return sorted(control(scene.bq, f"rows?table={scene.table('target')}"), key=lambda r: (r["k"], r["part"], r["version"]))


def sorted_rows(rows):
    return sorted(rows, key=lambda r: (r["k"], r["part"], r["version"]))


def ends_well(scene, rows):
    assert shown(scene) == sorted_rows(rows)
    no_shards_left(scene)
    bases = [t for t in scene.bq.tables(scene.dataset) if "_bqfleet_" in t]
    assert len(bases) == 1 and bases[0] in view(scene)["view"]["query"], bases
    assert view(scene)["labels"]["bqfleet_state"] == "free"
    assert_honest(scene.bq)


@pytest.mark.parametrize("mode", ["merge", "append"])
def test_the_view_shows_rows_long_before_the_end_and_the_next_run_adds_to_them(scene, mode):
    items = make_items(300)
    scene.workers(4, work(scene, 0.1), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, mode=mode, write=TABLES, finish=EVERY), "--output", "json", *SOON)
    wait_for(lambda: shown(scene), 60, "the first rows")
    assert run.running and view(scene)["labels"]["bqfleet_state"] == "open"
    some = shown(scene)
    wait_for(lambda: len(shown(scene)) > len(some), 60, "more of them")
    now = shown(scene)
    assert all(row in now for row in some) and len({(r["k"], r["part"]) for r in now}) == len(now)
    done = run.wait(90)
    assert done.code == 0, done
    ends_well(scene, expected(items))
    assert summary(done)["inserted"] >= len(expected(items))  # as loaded: an item may have been handled twice
    later = make_items(100, first=200)
    again = scene.bqfleet("run", batch(scene, later, mode=mode, version=2, write=TABLES, finish=EVERY), *SOON, timeout=90)
    assert again.code == 0, again
    kept = expected(items) if mode == "append" else expected(items[:200])
    ends_well(scene, kept + expected(later, version=2))


def test_coordinators_and_workers_are_killed_in_the_middle_of_it(scene):
    items = make_items(300)
    workers = scene.workers(3, work(scene, 0.05), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, write=TABLES, finish=EVERY), *SOON)
    wait_for(lambda: shown(scene), 60, "the first rows")
    serve = scene.start_bqfleet("serve", *SOON)
    for victim in (run, workers[0], workers[1]):
        victim.kill()
    before = shown(scene)
    scene.workers(2, work(scene, 0.05), "--parallel", "2", *FAST)
    wait_for(lambda: view(scene)["labels"]["bqfleet_state"] == "free", 120, "the view given free")
    assert all(row in shown(scene) for row in before)
    ends_well(scene, expected(items))
    serve.terminate()
    assert serve.wait(30).code == 0


def test_what_is_cancelled_keeps_what_was_shown(scene):
    items = make_items(1500)
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, items, write=TABLES, finish=EVERY), "--output", "json", *SOON)
    wait_for(lambda: shown(scene), 60, "the first rows")
    before = shown(scene)
    assert scene.bqfleet("cancel", f"batch-{scene.id}", timeout=60).code == 0
    done = run.wait(60)
    assert done.code == 5, done
    rows = shown(scene)
    assert all(row in rows for row in before) and len(before) <= len(rows) < len(expected(items))
    ends_well(scene, rows)


def test_a_cancel_without_a_coordinator_returns_and_says_who_gives_the_view_free(scene):
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, make_items(1500), write=TABLES, finish=EVERY), *SOON)
    wait_for(lambda: shown(scene), 60, "the first rows")
    run.kill()
    before, name = shown(scene), f"batch-{scene.id}"
    done = scene.bqfleet("cancel", name, timeout=60)
    assert done.code == 0 and "bqfleet watch" in done.err and "the batch's name is free" in done.err, done
    status = scene.bqfleet("status", name)
    assert "bqfleet watch or serve" in status.out, status
    assert scene.bqfleet("watch", name, *SOON, timeout=60).code == 5
    assert all(row in shown(scene) for row in before)
    ends_well(scene, shown(scene))


def test_a_view_that_is_dropped_in_mid_run_fails_it_and_everybody_says_why(scene):
    scene.workers(2, work(scene, 0.02), "--parallel", "2", *FAST)
    run = scene.start_bqfleet("run", batch(scene, make_items(300), write=TABLES, finish=EVERY), *SOON)
    wait_for(lambda: shown(scene), 60, "the first rows")
    scene.bq.call("DELETE", f"/datasets/{scene.dataset}/tables/target")
    done = run.wait(90)
    assert done.code == 4 and "was dropped while the run went on" in done.err, done
    status = scene.bqfleet("status", f"batch-{scene.id}")
    assert "was dropped while the run went on" in status.out, status
    no_shards_left(scene)


def test_a_table_that_is_there_is_no_view(scene):
    scene.bq.create_table(scene.table("target"), [{"name": "k", "type": "STRING"}])
    done = scene.bqfleet("run", batch(scene, make_items(1), write=TABLES))
    assert done.code == 2 and "it is a TABLE" in done.err, done


def test_one_process_does_not_write_so_but_looks(make_scene, bqmodel):
    scene = make_scene(bqmodel())
    handlers = {"work": {"exec": scene.handler(handler_body())}}
    done = scene.bqfleet("run", batch(scene, make_items(1), write=TABLES, handlers=handlers))
    assert done.code == 2 and "is for the workers of a fleet" in done.err, done
    done = scene.bqfleet("plan", batch(scene, make_items(1), write=TABLES, handlers=handlers))
    assert done.code == 0 and "bqfleet_item < 0" in done.out, done
    assert view(scene) is None


def test_the_emulator_reads_what_the_view_says(fleet):
    """It keeps a view's new text and goes on reading by the old one, so the text itself is read; and once the first base is gone, it has no such view any more,
    so the run does not end there."""
    items, gate = make_items(40), fleet.folder / "gate"
    fleet.create_topics("--partitions", "4")
    last = f"while payload['n'] >= 30 and not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)"
    fleet.workers(2, work(fleet, 0.01, last), "--parallel", "8", "--linger", "50ms")

    def read():
        if view(fleet) is None:
            return []
        sql = f"SELECT k, part, v, note, version FROM ({view(fleet)['view']['query']}) ORDER BY k, part"
        answer = fleet.bq.call("POST", "/queries", {"query": sql, "useLegacySql": False, "maxResults": 10000, "timeoutMs": 30000})
        names = ["k", "part", "v", "note", "version"]
        return [{n: c["v"] if n in ("k", "note") else int(c["v"]) for n, c in zip(names, row["f"])} for row in answer.get("rows") or []]

    run = fleet.start_bqfleet("run", batch(fleet, items, write=TABLES, finish=EVERY))
    wait_for(lambda: len(read()) >= 40, 120, "rows that the view shows")
    assert run.running and "bqfleet_loads" in view(fleet)["view"]["query"]
    time.sleep(0.1)
    assert all(row in sorted_rows(expected(items)) for row in read())
    gate.touch()
    wait_for(lambda: any("_bqfleet_c" in t for t in fleet.bq.tables(fleet.dataset)), 60, "the table that it is compacted into")
    base = next(t for t in fleet.bq.tables(fleet.dataset) if "_bqfleet_c" in t)
    wait_for(lambda: fleet.bq.rows(f"{fleet.dataset}.{base}", order=["k", "part"]) == sorted_rows(expected(items)), 60, "all rows in it")
