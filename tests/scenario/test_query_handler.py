"""SQL as a handler: real SELECTs on the emulator, fleets on a real broker and the model of BigQuery; the target is compared row by row."""
import json
import re

import pytest

from support.bigquery import columns
from support.fleet import (FIELDS, MANIFEST, assert_commits_follow_manifests, assert_honest, assert_target, batch, create_target, expected, handler_body, jobs_of,
                           make_items, no_shards_left, summary, wait_for_log)
from support.processes import wait_for
from support.scene import ROOT

# The rows of support.fleet.expected(), made by SQL.
ROWS = """SELECT i.item, i.key AS k, {part} AS part, CAST(JSON_VALUE(i.payload, '$.n') AS INT64) * 10 + {part} AS v,
  {note} AS note, CAST(JSON_VALUE(@params, '$.version') AS INT64) AS version
FROM UNNEST(@items) AS i{more} -- all of them;
"""
ON_EMULATOR = ROWS.format(part="p", note="CONCAT(i.key, '/', CAST(p AS STRING))", more=", UNNEST([0, 1]) AS p")
# The model computes less: one row an item, its key as note.
ON_MODEL = ROWS.format(part="0", note="i.key", more="")


def on_model(items):
    return [row | {"note": row["k"]} for row in expected(items, rows_each=1)]


def spec_of(scene, items, sql, **parts):
    scene.write("rows.sql", sql)
    handlers = {"work": {"query": {"file": "rows.sql"}, "window": parts.pop("window", 1000)}}
    return batch(scene, items, handlers=handlers, **parts)


# -- in one process, on the emulator


def test_a_select_merges_its_rows(embedded):
    items = make_items(500)
    create_target(embedded, expected(items[:100], version=0))
    done = embedded.bqfleet("run", spec_of(embedded, items, ON_EMULATOR, window=200), "--output", "json", "--linger", "200ms")
    assert done.code == 0, done
    assert_target(embedded, expected(items))
    assert (summary(done)["updated"], summary(done)["inserted"]) == (200, 800)
    no_shards_left(embedded)


def test_the_readmes_example_works_as_it_is_written(embedded):
    section = (ROOT / "README.md").read_text().split("### SQL as a handler")[1].split("\n## ")[0]
    sql, = re.findall(r"```sql\n(.*?)```", section, re.S)
    spec, = re.findall(r"```yaml\n(.*?)```", section, re.S)
    embedded.bq.create_table(embedded.table("orders"), columns("customer STRING", "day DATE", "amount INT64"), [
        {"customer": "ann", "day": "2025-02-01", "amount": 5}, {"customer": "ann", "day": "2025-03-01", "amount": 7},
        {"customer": "ann", "day": "2024-12-31", "amount": 100}, {"customer": "bob", "day": "2025-01-01", "amount": 1}])
    embedded.bq.create_table(embedded.table("totals"), columns("customer STRING", "orders INT64", "amount INT64"))
    embedded.items([{"customer": name} for name in ("ann", "bob", "cid")], "customers.ndjson")
    embedded.write("totals.sql", sql.replace("shop.orders", embedded.table("orders")))
    spec = embedded.write("totals.yaml", f"project: local\n{spec.replace('shop.totals', embedded.table('totals'))}")
    done = embedded.bqfleet("run", spec)
    assert done.code == 0, done
    assert embedded.bq.rows(embedded.table("totals"), order=["customer"]) == [
        {"customer": "ann", "orders": 2, "amount": 12}, {"customer": "bob", "orders": 1, "amount": 1}, {"customer": "cid", "orders": 0, "amount": 0}]


def test_only_the_item_whose_data_fail_has_failed(embedded):
    items = make_items(60)
    items[37]["n"] = "many"
    create_target(embedded)
    failed = embedded.folder / "failed.ndjson"
    done = embedded.bqfleet("run", spec_of(embedded, items, ON_EMULATOR, finish={"tolerate": 1}), "--failed", failed, "--linger", "100ms")
    assert done.code == 0, done
    assert_target(embedded, expected(items[:37] + items[38:]))
    line = json.loads(failed.read_text())
    assert line["k"] == "item-000037" and "many" in line["_bqfleet"]["error"] and line["_bqfleet"]["attempts"] == 1


def test_a_partitioned_target_is_written_by_ranges(embedded):
    items = make_items(30)
    embedded.bq.create_table(embedded.table("target"), FIELDS + columns("day DATE"), timePartitioning={"type": "DAY", "field": "day"})
    sql = ON_EMULATOR.replace("SELECT i.item,", "SELECT i.item, DATE_ADD(DATE '2025-01-01', INTERVAL CAST(JSON_VALUE(i.payload, '$.n') AS INT64) DAY) AS day,")
    done = embedded.bqfleet("run", spec_of(embedded, items, sql, write={"keys": ["k", "part", "day"]}), "--linger", "100ms")
    assert done.code == 0, done
    assert sorted(row["day"] for row in embedded.bq.rows(embedded.table("target")))[::2] == [f"2025-01-{i + 1:02}" for i in range(30)]
    cut, = [j for j in embedded.bq.jobs("bqfleet_cut") if j["status"]["state"] == "DONE" and embedded.dataset in json.dumps(j["configuration"])]
    range_of = {p["name"]: p["parameterValue"].get("value") for p in cut["configuration"]["query"]["queryParameters"]}
    assert (range_of["part_lo"], range_of["part_hi"]) == ("2025-01-01", "2025-01-30")


def test_what_is_no_select_is_refused_with_its_place(embedded):
    create_target(embedded)
    for sql, why in (("DELETE FROM d.t WHERE TRUE", "begins with DELETE"), ("SELECT 1;\nDROP TABLE d.t", "line 2: something stands behind the semicolon")):
        done = embedded.bqfleet("run", spec_of(embedded, make_items(3), sql))
        assert done.code == 2 and "batch.yaml:" in done.err and why in done.err, done
    done = embedded.bqfleet("run", spec_of(embedded, make_items(3), "SELECT i.item, i.key AS kk FROM UNNEST(@items) AS i"))
    assert done.code == 4 and "it returns a column kk, which the target has not" in done.err, done
    assert_target(embedded, [])


def test_try_shows_the_rows_of_a_select(embedded):
    create_target(embedded)
    spec = spec_of(embedded, make_items(20), ON_EMULATOR)
    done = embedded.bqfleet("try", spec, "--limit", "2")
    assert done.code == 0, done
    shown = sorted((json.loads(line) for line in done.out.splitlines()), key=lambda row: (row["k"], row["part"]))
    assert shown == expected(make_items(2))
    assert_target(embedded, [])


def test_plan_looks_at_the_select(embedded):
    create_target(embedded)
    done = embedded.bqfleet("plan", spec_of(embedded, make_items(20), ON_EMULATOR))
    assert done.code == 0 and "it returns item, k, part, v, note, version" in done.out and "or more statement" in done.out, done
    done = embedded.bqfleet("plan", spec_of(embedded, make_items(20), ON_EMULATOR.replace("AS version", "AS versoin")))
    assert done.code == 2 and "versoin, which the target has not; did you mean version?" in done.err, done


def test_without_a_table_the_rows_of_a_select_go_to_stdout(embedded):
    spec = embedded.spec("none.yaml", batch="none", items={"list": ["a", "b", "c"]}, job={"handler": "work"}, write={"mode": "none"},
                         handlers={"work": {"query": "SELECT i.item, UPPER(i.key) AS name FROM UNNEST(@items) AS i"}})
    done = embedded.bqfleet("run", spec, "--linger", "100ms")
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ['{"name":"A"}', '{"name":"B"}', '{"name":"C"}']


# -- a fleet

FAST = ("--linger", "200ms", "--session", "6s", "--parallel", "2")


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel("--load-ms", "50", "--dml-ms", "100"), broker.address)
    create_target(made)
    made.create_topics("--partitions", "4")
    made.write("rows.sql", ON_MODEL)
    made.write("handlers.yaml", "handlers:\n  work: {query: {file: rows.sql}, window: 40}\n")
    return made


def worker(scene, *more):
    return scene.worker({}, "--handlers-file", scene.folder / "handlers.yaml", *FAST, *more)


def ends_well(scene, run, items):
    done = run.wait(120)
    assert done.code == 0, done
    assert_target(scene, on_model(items))
    scene.wait_all_committed()
    assert_honest(scene.bq)
    no_shards_left(scene)


def test_a_fleet_of_selects_writes_every_row_once(scene):
    items = make_items(400)
    scene.worker({"work": f"query:{scene.folder / 'rows.sql'}"}, *FAST)
    worker(scene)
    run = scene.start_bqfleet("run", batch(scene, items))
    ends_well(scene, run, items)
    assert not jobs_of(scene.bq, "load")
    assert 1 <= len(jobs_of(scene.bq, "query")) <= 20


def test_a_statement_takes_no_place_from_a_program(scene):
    items = make_items(40)
    scene.bq.create_table(scene.table("other"), FIELDS)
    scene.bq.fault("bqfleet_query", "job_slow", times=-1, ms=600000)
    scene.worker({"program": scene.handler(handler_body())}, "--handlers-file", scene.folder / "handlers.yaml", *FAST, "--parallel", "1")
    selects = scene.start_bqfleet("run", batch(scene, items))
    wait_for(lambda: jobs_of(scene.bq, "query"), 30, "a statement")
    done = scene.bqfleet("run", batch(scene, items, name="programs", table=scene.table("other"), job={"handler": "program"}))
    assert done.code == 0, done
    assert_target(scene, expected(items), "other")
    assert selects.popen.poll() is None
    assert scene.bqfleet("cancel", f"batch-{scene.id}").code == 0
    assert selects.wait(60).code == 5
    wait_for(lambda: any(job["error"] and job["error"]["reason"] == "stopped" for job in scene.bq.counters()["jobs"]), 30, "the statement's end")


def test_a_worker_killed_in_the_middle_of_a_group_loses_nothing(scene):
    items = make_items(400)
    scene.bq.fault("bqfleet_query", "job_slow", times=-1, ms=1500)
    first = worker(scene)
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for_log(scene, MANIFEST, 1)
    begun = len(jobs_of(scene.bq, "query"))
    wait_for(lambda: len(jobs_of(scene.bq, "query")) > begun, 30, "another statement")
    first.kill()
    assert_commits_follow_manifests(scene)
    scene.bq.clear_faults()
    worker(scene)
    worker(scene)
    ends_well(scene, run, items)


def test_a_drained_worker_hands_its_group_back_and_cancels_it(scene):
    items = make_items(100)
    scene.bq.fault("bqfleet_query", "job_slow", times=-1, ms=60000)
    leaver = worker(scene, "--grace", "2s")
    run = scene.start_bqfleet("run", batch(scene, items))
    wait_for(lambda: jobs_of(scene.bq, "query"), 30, "a statement")
    leaver.terminate()
    assert leaver.wait(40).code == 0
    scene.bq.clear_faults()
    worker(scene)
    ends_well(scene, run, items)
    assert any(job["error"] and job["error"]["reason"] == "stopped" for job in scene.bq.counters()["jobs"])
