"""One row of each key in a table that is there, on the emulator."""
import json

import pytest

from support.bigquery import columns

FIELDS = columns("k STRING", "day DATE", "v INT64", "tags STRING REPEATED", "j JSON") + [
    {"name": "s", "type": "RECORD", "mode": "NULLABLE", "fields": columns("a INT64", "b STRING REPEATED")}]
DAYS = {"timePartitioning": {"type": "DAY", "field": "day"}}


def row(k, day, v, **more):
    return {"k": k, "day": day, "v": v, "tags": [f"t{v}"], "s": {"a": v, "b": ["x"]}, **more}


def table(scene, rows, **partitioning):
    scene.bq.create_table(scene.table("target"), FIELDS, rows, **partitioning)


def name(scene, table="target"):
    return f"{scene.bq.project}.{scene.table(table)}"


def dedupe(scene, *args, keys="k,day", code=0):
    done = scene.bqfleet("dedupe", name(scene), "--keys", keys, *args)
    assert done.code == code, done
    return done


def rows(scene):
    return sorted(((r["k"] or "", r["day"] or "", r["v"] or 0) for r in scene.bq.rows(scene.table("target"))))


SOME = [row("a", "2026-01-01", 1), row("a", "2026-01-01", 3), row("a", "2026-01-01", 2), row("b", "2026-01-01", 1),
        row("a", "2026-01-02", 1), row("b", "2026-01-02", 1),
        row("c", "2026-01-09", 5), row("c", "2026-01-09", 5), row("c", "2026-01-09", None)]
LEFT = [("a", "2026-01-01", 3), ("a", "2026-01-02", 1), ("b", "2026-01-01", 1), ("b", "2026-01-02", 1), ("c", "2026-01-09", 5)]


def test_it_looks_first_and_then_leaves_the_greatest_of_each_key(embedded):
    table(embedded, SOME, **DAYS)
    looked = json.loads(dedupe(embedded, "--order-by", "v", "--dry-run", "--output", "json", code=1).out)
    assert looked["partitions"] == [{"partition": "20260101", "rows": 4, "of_equal_keys": 3, "such_keys": 1},
                                    {"partition": "20260109", "rows": 3, "of_equal_keys": 3, "such_keys": 1}]
    assert (looked["too_many"], looked["removed"]) == (4, 0)
    refused = dedupe(embedded, "--order-by", "v", code=2)
    assert "4 rows too many, removed by 2 statements" in refused.out and "--yes" in refused.err
    assert len(rows(embedded)) == len(SOME)
    done = json.loads(dedupe(embedded, "--order-by", "v", "--yes", "--output", "json").out)
    assert done["removed"] == 4 and [s["partitions"] for s in done["statements"]] == [["20260101"], ["20260109"]]
    assert rows(embedded) == LEFT
    kept = [r for r in embedded.bq.rows(embedded.table("target")) if r["k"] == "a" and r["day"] == "2026-01-01"]
    assert kept[0]["tags"] == ["t3"] and kept[0]["s"] == {"a": 3, "b": ["x"]}
    assert "no key has more than one row" in dedupe(embedded, "--order-by", "v", "--dry-run").out
    dedupe(embedded, "--order-by", "v", "--yes")
    embedded.bq.load(embedded.table("target"), SOME[:4])  # once more the same rows
    assert json.loads(dedupe(embedded, "--order-by", "v", "--yes", "--output", "json").out)["removed"] == 4
    assert rows(embedded) == LEFT


def test_only_the_named_partitions_are_touched(embedded):
    table(embedded, SOME, **DAYS)
    dedupe(embedded, "--partition", "2026-01-09", "--yes", "--order-by", "v")
    assert len(rows(embedded)) == len(SOME) - 2
    dedupe(embedded, "--partition", "20260102", "--yes", "--partition", "20260101", "--order-by", "v")
    assert rows(embedded) == LEFT


def test_rows_of_one_key_in_several_partitions(embedded):
    table(embedded, [row("a", "2026-01-01", 1), row("a", "2026-01-05", 7), row("a", None, 3), row("b", "2026-01-01", 1), row("c", "2026-01-03", 1)], **DAYS)
    looked = json.loads(dedupe(embedded, "--order-by", "v", "--dry-run", "--output", "json", keys="k", code=1).out)
    assert [p["partition"] for p in looked["partitions"]] == ["20260101", "20260105", "__NULL__"] and looked["too_many"] == 2
    dedupe(embedded, "--order-by", "v", "--yes", keys="k")
    assert rows(embedded) == [("a", "2026-01-05", 7), ("b", "2026-01-01", 1), ("c", "2026-01-03", 1)]


@pytest.mark.parametrize("partitioning", [{}, DAYS])
def test_nulls_in_keys(embedded, partitioning):
    table(embedded, [row(None, "2026-01-01", 1), row(None, "2026-01-01", 2), row("a", None, 1), row("a", None, 1), row("b", None, 1)], **partitioning)
    assert "5 rows have NULL in a key: say --null-keys equal" in dedupe(embedded, "--yes", code=2).err
    dedupe(embedded, "--yes", "--null-keys", "distinct")
    assert len(rows(embedded)) == 5
    dedupe(embedded, "--yes", "--null-keys", "equal", "--order-by", "v")
    assert rows(embedded) == [("", "2026-01-01", 2), ("a", "", 1), ("b", "", 1)]


def test_integer_ranges(embedded):
    table(embedded, [row("a", None, v) for v in (-5, -5, 5, 5, 15, 400, 400)], rangePartitioning={"field": "v", "range": {"start": "0", "end": "100", "interval": "10"}})
    done = json.loads(dedupe(embedded, "--yes", "--output", "json", keys="k,v").out)
    assert [p["partition"] for p in done["partitions"]] == ["__UNPARTITIONED__", "0"] and done["removed"] == 3
    assert [v for _, _, v in rows(embedded)] == [-5, 5, 15, 400]


def many(scene):
    """Days that are no neighbours: a statement for each."""
    days = [f"2026-{month:02d}-15" for month in range(1, 13)]
    table(scene, [row(k, day, v) for day in days for k in ("a", "b", "c") for v in (1, 2)], **DAYS)
    return sorted((k, day, 2) for day in days for k in ("a", "b", "c"))


def test_killed_at_any_statement_it_goes_on_where_it_was(embedded):
    wanted = many(embedded)
    for kill_at in (1, 2, 3):
        process = embedded.start_bqfleet("dedupe", name(embedded), "--keys", "k,day", "--order-by", "v", "--yes")
        process.wait_for_text(f"statement {kill_at} of", timeout=60)
        process.kill()
        process.wait()
        there = rows(embedded)
        assert set(wanted) <= set(there) and len(there) < 2 * len(wanted)  # nothing lost, and something done
    dedupe(embedded, "--order-by", "v", "--yes")
    assert rows(embedded) == wanted


def test_interrupted_it_says_where_it_stopped(embedded):
    wanted = many(embedded)
    process = embedded.start_bqfleet("dedupe", name(embedded), "--keys", "k,day", "--order-by", "v", "--yes")
    process.wait_for_text("statement 1 of", timeout=60)
    process.interrupt()
    done = process.wait()
    assert done.code == 130, done
    assert "of 12 statements are done, the table is whole, and the same command goes on from there" in done.err
    assert set(wanted) < set(rows(embedded))
    dedupe(embedded, "--order-by", "v", "--yes")
    assert rows(embedded) == wanted


def test_it_takes_a_permit_where_there_are_any(embedded):
    table(embedded, SOME, **DAYS)
    assert embedded.bqfleet("permits", "init", name(embedded)).code == 0
    dedupe(embedded, "--order-by", "v", "--yes")
    assert rows(embedded) == LEFT
    listed = json.loads(embedded.bqfleet("permits", "list", name(embedded), "--output", "json").out)
    assert [p["state"] for p in listed["permits"]] != ["held"]


WRONG = [
    ((), "--keys is missing"),
    (("--keys", "nope"), "--keys: "),
    (("--keys", "tags"), "it is an ARRAY"),
    (("--keys", "k,K"), "is named twice"),
    (("--keys", "k", "--order-by", "s"), "--order-by: column s"),
    (("--keys", "k", "--partition", "2026-02-30"), "is no partition of day"),
    (("--keys", "k", "--max-bytes-billed", "many"), "max-bytes-billed"),
    (("--keys", "k", "--null-keys", "no"), "refuse|equal|distinct")]


def test_wrong_input_is_refused(embedded):
    table(embedded, SOME, **DAYS)
    for args, complaint in WRONG:
        done = embedded.bqfleet("dedupe", name(embedded), *args)
        assert done.code == 2 and complaint in done.err, done
    assert len(rows(embedded)) == len(SOME)


def test_tables_that_are_not_there_or_have_no_partitions(embedded):
    done = embedded.bqfleet("dedupe", name(embedded, "nothing"), "--keys", "k")
    assert done.code == 2 and "nothing" in done.err, done
    table(embedded, SOME)
    assert "has no partitions" in dedupe(embedded, "--partition", "20260101", code=2).err
    dedupe(embedded, "--order-by", "v", "--yes")
    assert rows(embedded) == LEFT
