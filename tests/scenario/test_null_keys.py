"""Rows with NULL in a key, in all the ways that a spec can say how they compare, on the emulator."""
import json

import pytest

from support.bigquery import columns

FIELDS = columns("k STRING", "day DATE", "v INT64", "version INT64")
ITEMS = [{"id": 1, "rows": [["a", "2024-01-01", 10], ["a", None, 11], [None, None, 12]]},
         {"id": 2, "rows": [["b", None, 20], [None, "2024-01-02", 21], [None, None, 22]]}]


def run(scene, version, null_keys, mode="merge", items=ITEMS):
    body = "return [{'k': k, 'day': day, 'v': v, 'version': params['version']} for k, day, v in payload['rows']]"
    scene.items(items)
    write = {"table": scene.table("target"), "mode": mode, "keys": ["k", "day"], "order_by": "version"}
    if null_keys:
        write["null_keys"] = null_keys
    spec = scene.spec(batch=f"nulls-{scene.id}", items={"file": "items.ndjson", "key": "id"}, job={"handler": "work", "attempts": 1, "params": {"version": version}},
                      handlers={"work": {"exec": scene.handler(body)}}, write=write, finish={"tolerate": "100%"})
    done = scene.bqfleet("run", spec, "--output", "json")
    assert done.code == 0, done
    return json.loads(done.out)


def rows(scene):
    return sorted(((r["k"] or "", r["day"] or "", r["v"], r["version"]) for r in scene.bq.rows(scene.table("target"))))


@pytest.fixture
def nulls(embedded):
    embedded.bq.create_table(embedded.table("target"), FIELDS)
    return embedded


def test_they_fail_their_item_by_default(nulls):
    assert run(nulls, 1, None)["failed"] == 2
    assert rows(nulls) == []


def test_equal_nulls_are_one_key_in_the_run_and_in_the_table(nulls):
    done = run(nulls, 1, "equal")
    assert (done["inserted"], done["updated"]) == (5, 0)
    first = [("", "", 22, 1), ("", "2024-01-02", 21, 1), ("a", "", 11, 1), ("a", "2024-01-01", 10, 1), ("b", "", 20, 1)]
    assert rows(nulls) == first
    done = run(nulls, 2, "equal", items=[{"id": 1, "rows": [[None, None, 30], ["a", None, 31], ["c", None, 32]]}])
    assert (done["inserted"], done["updated"]) == (1, 2)
    assert rows(nulls) == sorted([("", "", 30, 2), ("a", "", 31, 2), ("c", "", 32, 2)] + [first[1], first[3], first[4]])
    run(nulls, 0, "equal", items=[{"id": 1, "rows": [[None, None, 40]]}])  # ranks lower than what is there
    assert ("", "", 30, 2) in rows(nulls)


def test_distinct_nulls_are_all_inserted(nulls):
    for version in (1, 2):
        done = run(nulls, version, "distinct")
        assert (done["inserted"], done["updated"]) == ((6, 0) if version == 1 else (5, 1))
    assert rows(nulls) == sorted([("a", "2024-01-01", 10, 2)] + [row for version in (1, 2) for row in [
        ("a", "", 11, version), ("", "", 12, version), ("b", "", 20, version), ("", "2024-01-02", 21, version), ("", "", 22, version)]])


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("null_keys, count", [("equal", 5), ("distinct", 6)])
def test_the_other_modes_rank_them_alike(nulls, mode, null_keys, count):
    run(nulls, 1, null_keys, mode)
    assert len(rows(nulls)) == count


@pytest.mark.parametrize("null_keys, inserted, updated", [("equal", 0, 5), ("distinct", 5, 1)])
def test_a_partition_that_is_null_is_found_again(embedded, null_keys, inserted, updated):
    embedded.bq.create_table(embedded.table("target"), FIELDS, timePartitioning={"type": "DAY", "field": "day"})
    run(embedded, 1, null_keys)
    done = run(embedded, 2, null_keys)
    assert (done["inserted"], done["updated"]) == (inserted, updated)


def test_plan_shows_how_they_compare(nulls):
    spec = nulls.spec(batch="plan", items={"list": ["a"]}, job={"handler": "work"},
                      write={"table": nulls.table("target"), "keys": ["k"], "null_keys": "equal"})
    done = nulls.bqfleet("plan", spec)
    assert done.code == 0 and "NULL keys  equal" in done.out and "bqfleet_t.`k` IS NULL AND bqfleet_s.`k` IS NULL" in done.out, done
