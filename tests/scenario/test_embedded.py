"""Runs in one process, without broker or cluster, on the emulator."""
import json
import sys

import pytest

from support.fleet import assert_target, batch, create_target, expected, handler_body, jobs_of, make_items, no_shards_left, summary


def spec_of(scene, items, body, handler=None, **parts):
    handlers = {"work": handler or {"exec": scene.handler(body), "window": parts.pop("window", 1)}}
    return batch(scene, items, handlers=handlers, **parts)


def test_a_batch_is_merged_from_its_spec(embedded):
    items = make_items(200)
    create_target(embedded, expected(items[:50], version=0))
    done = embedded.bqfleet("run", spec_of(embedded, items, handler_body(), window=8), "--output", "json")
    assert done.code == 0, done
    assert_target(embedded, expected(items))
    assert (summary(done)["updated"], summary(done)["inserted"]) == (100, 300)
    no_shards_left(embedded)


def test_loads_may_be_sent_as_gzip(make_scene, bqmodel):
    scene = make_scene(bqmodel())
    items = make_items(300)
    create_target(scene)
    body = handler_body().replace("return [", "rows = [") + "if key == 'item-000007':\n    rows[1]['note'] = 'bqmodel-reject'\nreturn rows"
    done = scene.bqfleet("run", spec_of(scene, items, body, window=8, finish={"tolerate": 1}), "--compress", "gzip", "--output", "json")
    assert done.code == 0, done
    assert summary(done)["failed"] == 1  # the refused row's: its load was unpacked and split
    assert_target(scene, expected(items[:7] + items[8:]))
    sent = [int(scene.bq.job(job)["statistics"]["load"]["inputFileBytes"]) for job in jobs_of(scene.bq, "load")]
    assert sum(sent) < 600 * 60, sent  # rows of some 180 bytes


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_rows_are_appended_or_replace_what_was_there(embedded, mode):
    items = make_items(40)
    before = expected(make_items(5, first=900))
    create_target(embedded, before)
    done = embedded.bqfleet("run", spec_of(embedded, items, handler_body(), mode=mode))
    assert done.code == 0, done
    assert_target(embedded, expected(items) + (before if mode == "append" else []))


def test_replace_by_nothing_empties_the_target(embedded):
    create_target(embedded, expected(make_items(5)))
    done = embedded.bqfleet("run", spec_of(embedded, [], handler_body(), mode="replace"))
    assert done.code == 0, done
    assert_target(embedded, [])


def test_items_of_every_source(embedded):
    create_target(embedded)
    body = "return [{'k': key, 'part': 0, 'v': 1, 'note': json.dumps(payload), 'version': params['version']}]"
    embedded.write("a.csv", 'k,n\r\none,"1,\r\n2"\r\ntwo,3\r\n')
    embedded.write("b.txt", "three\nfour\n")
    sources = {"csv": ({"csv": "a.csv", "key": "k"}, ["one", "two"]), "lines": ({"lines": "b.txt"}, ["three", "four"]),
               "list": ({"list": ["five", "six"]}, ["five", "six"]), "range": ({"range": {"from": 7, "to": 8}}, ["7", "8"])}
    for version, (name, (source, keys)) in enumerate(sources.items()):
        spec = embedded.spec(f"{name}.yaml", batch=name, items=source, job={"handler": "work", "params": {"version": version}},
                             handlers={"work": {"exec": embedded.handler(body)}},
                             write={"table": embedded.table("target"), "mode": "append"})
        done = embedded.bqfleet("run", spec)
        assert done.code == 0, done
        assert sorted(r["k"] for r in embedded.bq.rows(embedded.table("target")) if r["version"] == version) == sorted(keys)
    rows = {r["k"]: r["note"] for r in embedded.bq.rows(embedded.table("target"))}
    assert json.loads(rows["one"]) == {"k": "one", "n": "1,\r\n2"}


def test_items_of_a_query(embedded):
    create_target(embedded, expected(make_items(7)), "source")
    create_target(embedded)
    spec = spec_of(embedded, [], "return [{'k': key, 'part': 0, 'v': payload['v'], 'note': None, 'version': 1}]")
    done = embedded.bqfleet("run", spec, "--set",
                            f"items={{query: 'SELECT k, v FROM {embedded.table('source')} WHERE part = 1', key: k}}")
    assert done.code == 0, done
    assert sorted((r["k"], r["v"]) for r in embedded.bq.rows(embedded.table("target"))) == [(i["k"], i["n"] * 10 + 1) for i in make_items(7)]


def test_one_process_per_item_with_command(embedded):
    script = embedded.write("one.py", "import json, sys\nitem = json.load(sys.stdin)\n"
                            "print(json.dumps({'k': sys.argv[1], 'part': 0, 'v': item['n'], 'note': 'x', 'version': 1}))\n"
                            "sys.exit(3 if item['n'] == 2 else 0)\n")
    create_target(embedded)
    items = make_items(5)
    spec = spec_of(embedded, items, "", handler={"command": [sys.executable, str(script), "{key}"]}, job={"attempts": 2}, finish={"tolerate": 1})
    done = embedded.bqfleet("run", spec, "--output", "json")
    assert done.code == 0, done
    assert [r["v"] for r in embedded.bq.rows(embedded.table("target"), order=["k"])] == [0, 1, 3, 4]
    assert summary(done)["failed"] == 1


def test_rows_of_a_batch_without_a_table_go_to_stdout(embedded):
    items = make_items(3)
    scene_spec = embedded.spec("none.yaml", batch="none", items={"list": ["a", "b", "c"]}, job={"handler": "work"},
                               handlers={"work": {"exec": embedded.handler("return [{'key': key}]")}}, write={"mode": "none"})
    done = embedded.bqfleet("run", scene_spec)
    assert done.code == 0, done
    assert sorted(json.loads(line)["key"] for line in done.out.splitlines()) == ["a", "b", "c"]
    assert items


def test_a_run_repeated_under_its_id_is_written_once(embedded):
    items = make_items(20)
    create_target(embedded)
    spec = spec_of(embedded, items, handler_body(), mode="append")
    for _ in range(2):
        done = embedded.bqfleet("run", spec, "--run-id", f"once-{embedded.id}")
        assert done.code == 0, done
    assert_target(embedded, expected(items))


def test_failed_items_are_a_file_that_can_be_run_again(embedded):
    items = make_items(30)
    create_target(embedded)
    body = handler_body(extra="if payload['n'] in (4, 5) and not os.path.exists('mended'):\n    raise ValueError('no')")
    failed = embedded.folder / "failed.ndjson"
    spec = spec_of(embedded, items, body, job={"attempts": 2}, finish={"tolerate": "10%"})
    done = embedded.bqfleet("run", spec, "--failed", failed)
    assert done.code == 0, done
    assert_target(embedded, expected(items[:4] + items[6:]))
    lines = [json.loads(line) for line in failed.read_text().splitlines()]
    assert sorted(line["k"] for line in lines) == ["item-000004", "item-000005"]
    assert all("no" in line["_bqfleet"]["error"] and line["_bqfleet"]["attempts"] == 2 for line in lines)
    embedded.write("mended", "")
    again = embedded.bqfleet("run", spec, "--set", f"items.file={failed}")
    assert again.code == 0, again
    assert_target(embedded, expected(items))


def test_an_interrupt_writes_nothing_and_says_so(embedded):
    create_target(embedded)
    body = handler_body(0.2, extra="open(f'seen-{payload[\"n\"]}', 'w').close()")
    run = embedded.start_bqfleet("run", spec_of(embedded, make_items(200), body))
    from support.processes import wait_for
    wait_for(lambda: list(embedded.folder.glob("seen-*")), 30, "the first item")
    run.interrupt()
    done = run.wait(30)
    assert done.code == 130 and "nothing was written" in done.err, done
    assert_target(embedded, [])


def test_try_shows_rows_and_writes_nothing(embedded):
    create_target(embedded)
    spec = spec_of(embedded, make_items(20), handler_body())
    done = embedded.bqfleet("try", spec, "--limit", "2")
    assert done.code == 0, done
    assert len(done.out.splitlines()) == 4
    one = embedded.bqfleet("try", spec, "--item", "item-000007")
    assert one.code == 0 and all(json.loads(line)["k"] == "item-000007" for line in one.out.splitlines()), one
    assert_target(embedded, [])


def test_plan_shows_items_schema_and_sql(embedded):
    create_target(embedded)
    done = embedded.bqfleet("plan", spec_of(embedded, make_items(20), handler_body()))
    assert done.code == 0, done
    assert "item-000000" in done.out and "MERGE" in done.out and "version" in done.out
    assert "staging: all at the end" in done.out and "1 on a fleet" in done.out and "in one process none" in done.out
    done = embedded.bqfleet("plan", spec_of(embedded, make_items(20), handler_body()), "--set", "finish.every=5s", "--set", "write.permits=3", "--output", "json")
    planned = json.loads(done.out)
    assert (planned["via"], planned["every_ms"], planned["permits"]) == ("staging", 5000, {"fleet": 3, "one_process": 3}), done
