"""Whole partitions replaced by a run's rows, on the emulator."""
import json

import pytest

from support.bigquery import columns

FIELDS = columns("k STRING", "day DATE", "at TIMESTAMP", "dt DATETIME", "n INT64", "v INT64", "tags STRING REPEATED")
DAYS = {"timePartitioning": {"type": "DAY", "field": "day"}}


def run(scene, items, code=0, **write):
    scene.items([{"id": i, "rows": rows} for i, rows in enumerate(items)])
    write = {"table": scene.table("target"), "mode": "replace-partitions", **write}
    spec = scene.spec(batch=f"parts-{scene.id}", items={"file": "items.ndjson", "key": "id"}, job={"handler": "work", "attempts": 1},
                      handlers={"work": {"exec": scene.handler("return payload['rows']")}}, write=write)
    done = scene.bqfleet("run", spec, "--output", "json")
    assert done.code == code, done
    return json.loads(done.out) if code == 0 else done


def keys(scene):
    return sorted(r["k"] for r in scene.bq.rows(scene.table("target")))


def target(scene, old, **partitioning):
    scene.bq.create_table(scene.table("target"), FIELDS, old, **partitioning)


def test_partitions_of_the_rows_are_replaced_and_no_others(embedded):
    target(embedded, [{"k": "old1", "day": "2026-01-01"}, {"k": "old2", "day": "2026-01-02", "tags": ["a"]}, {"k": "old3", "day": "2026-01-03"}, {"k": "old0"}], **DAYS)
    rows = [[{"k": "a", "day": "2026-01-01", "tags": ["x", "y"]}], [{"k": "b", "day": "2026-01-03"}, {"k": "c", "day": "2026-02-01"}]]
    done = run(embedded, rows)
    assert (done["inserted"], done["deleted"]) == (3, 2)
    assert keys(embedded) == ["a", "b", "c", "old0", "old2"]
    run(embedded, rows)  # and again: its own rows are replaced by themselves
    assert keys(embedded) == ["a", "b", "c", "old0", "old2"]
    run(embedded, [[{"k": "none"}]])  # a row without a day replaces those without
    assert keys(embedded) == ["a", "b", "c", "none", "old2"]
    run(embedded, [[], []])  # no rows, no partitions
    assert keys(embedded) == ["a", "b", "c", "none", "old2"]


def test_of_equal_keys_only_the_winner_says_which_partition(embedded):
    target(embedded, [{"k": "old1", "day": "2026-01-01"}, {"k": "old2", "day": "2026-01-02"}], **DAYS)
    run(embedded, [[{"k": "a", "day": "2026-01-01", "v": 1}], [{"k": "a", "day": "2026-01-02", "v": 2}]], keys=["k"], order_by="v")
    assert [(r["k"], r["day"]) for r in embedded.bq.rows(embedded.table("target"), order=["day"])] == [("old1", "2026-01-01"), ("a", "2026-01-02")]


@pytest.mark.parametrize("kind, column, same, other", [
    ("HOUR", "at", ("2026-01-31T07:59:59.999999Z", "2026-01-31T07:00:00Z"), ("2026-01-31T06:59:59Z", "2026-01-31T08:00:00Z")),
    ("MONTH", "dt", ("2026-01-31T23:59:59", "2026-01-01T00:00:00"), ("2025-12-31T23:59:59", "2026-02-01T00:00:00")),
    ("YEAR", "day", ("2026-12-31", "2026-01-01"), ("2025-12-31", "2027-01-01"))])
def test_every_unit_of_time(embedded, kind, column, same, other):
    target(embedded, [{"k": f"same{i}", column: v} for i, v in enumerate(same)] + [{"k": f"other{i}", column: v} for i, v in enumerate(other)],
           timePartitioning={"type": kind, "field": column})
    run(embedded, [[{"k": "new", column: same[1]}]])
    assert keys(embedded) == ["new", "other0", "other1"]


def test_integer_ranges_and_what_is_outside_of_them(embedded):
    target(embedded, [{"k": str(n), "n": n} for n in (-1, 0, 9, 10, 19, 20, 99, 100)] + [{"k": "none"}],
           rangePartitioning={"field": "n", "range": {"start": "0", "end": "100", "interval": "10"}})
    run(embedded, [[{"k": "new", "n": 15}]])
    assert keys(embedded) == sorted(["-1", "0", "9", "new", "20", "99", "100", "none"])
    run(embedded, [[{"k": "out", "n": 5000}]])
    assert keys(embedded) == sorted(["out", "0", "9", "new", "20", "99", "none"])


def test_a_target_without_such_partitions_is_refused(embedded):
    target(embedded, [])
    assert "has no partitions; mode: replace replaces all of it" in run(embedded, [[]], code=2).err


def test_plan_says_so(embedded):
    target(embedded, [], **DAYS)
    spec = embedded.spec(batch="p", items={"list": ["a"]}, job={"handler": "work"}, write={"table": embedded.table("target"), "mode": "replace-partitions"})
    done = embedded.bqfleet("plan", spec)
    assert done.code == 0, done
    assert "by day: only the partitions of the run's own rows are replaced, each as a whole" in done.out
    assert "SELECT DISTINCT IFNULL(LPAD(FORMAT_DATE('%Y%m%d', bqfleet_r.`day`), 8, '0'), '__NULL__') AS part" in done.out
