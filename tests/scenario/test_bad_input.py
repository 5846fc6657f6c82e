"""Bad input: what is said, the exit code, and that nothing was written."""
import json
import os
import socket
import time

import pytest

from support.bigquery import columns
from support.fleet import control
from support.processes import wait_for

COLUMNS = columns("k STRING REQUIRED", "n INT64", "note STRING")
BEFORE = [{"k": "old", "n": 1, "note": "stays"}]
ECHO = "return [{'k': key, 'n': len(key)}]"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Batch:
    """A spec that would work, to be spoiled in one place; its target has one row that must stay alone."""

    def __init__(self, scene, body=ECHO):
        self.scene, self.table = scene, scene.table("t")
        scene.bq.create_table(self.table, COLUMNS, BEFORE)
        self.parts = {
            "batch": f"b-{scene.id}", "items": {"list": ["a", "bb"]}, "job": {"handler": "h", "attempts": 1},
            "handlers": {"h": {"exec": scene.handler(body)}}, "write": {"table": self.table, "mode": "merge", "keys": ["k"]},
        }

    def change(self, **parts):
        for name, part in parts.items():
            self.parts[name] = {**self.parts.get(name, {}), **part} if isinstance(part, dict) and name != "items" else part
        return self

    def spec(self):
        return self.scene.spec(**self.parts)

    def run(self, *args, **more):
        return self.scene.bqfleet("run", "--progress", "none", *args, self.spec(), **more)

    def plan(self, *args, **more):
        return self.scene.bqfleet("plan", *args, self.spec(), **more)

    def rows(self):
        return sorted(self.scene.bq.rows(self.table), key=lambda row: row["k"])

    def untouched(self):
        rows = self.rows()
        assert [(r["k"], r["n"], r["note"]) for r in rows] == [("old", 1, "stays")]
        left = [t for t in self.scene.bq.tables(self.scene.dataset) if t != "t"]
        assert not left, f"tables left behind: {left}"


@pytest.fixture
def batch(embedded):
    return Batch(embedded)


def refused(done, code, *said):
    assert done.code == code, done
    for text in said:
        assert text in done.err, done
    assert "Sanitizer" not in done.err, done


# -- the command line


COMMAND_LINES = {
    "unknown command": (["pln"], 'there is no command "pln"; did you mean "plan"?'),
    "no argument": (["plan"], "an argument is missing; usage: bqfleet plan [FLAGS] SPEC"),
    "too many": (["plan", "a", "b"], "too many arguments"),
    "unknown flag": (["plan", "--limt", "3", "x"], "unknown flag --limt; did you mean --limit?"),
    "no number": (["plan", "--limit", "many", "x"], "many"),
    "no choice": (["plan", "--output", "xml", "x"], "xml"),
    "no unit": (["plan", "--wait", "30", "x"], "30"),
    "flag first": (["--limit", "3", "plan", "x"], "a command comes first"),
    "unknown action": (["config", "shw"], 'did you mean "show"?'),
    "no brokers": (["topics", "create"], "give --brokers"),
    "status of no fleet": (["status"], "status needs a fleet: give --brokers"),
    "cancel in no fleet": (["cancel", "x"], "cancel needs a fleet: give --brokers"),
    "unknown topics action": (["topics", "creat", "--brokers", "x"], "neither create nor check"),
    "unknown property": (["topics", "check", "--brokers", "127.0.0.1:1", "--kafka", "no.such=1"], "no.such"),
    "no file": (["plan", "/nowhere/spec.yaml"], "/nowhere/spec.yaml: cannot be read: No such file"),
}


@pytest.mark.parametrize("arguments, said", COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_a_wrong_command_line_is_told_what_is_right(make_scene, arguments, said):
    refused(make_scene().run("bqfleet", *arguments), 2, said)


def test_help_goes_to_stdout(make_scene):
    scene = make_scene()
    for arguments in [], ["--help"], ["help"], ["help", "run"], ["run", "--help"], ["plan", "x", "-h"]:
        done = scene.run("bqfleet", *arguments)
        assert done.code == 0 and "Usage: bqfleet" in done.out and not done.err, done


def test_secrets_are_not_shown(make_scene):
    done = make_scene().run("bqfleet", "config", "show", env={"BQFLEET_TOKEN": "verysecret"})
    assert done.code == 0 and "(set)" in done.out and "verysecret" not in done.out + done.err, done


def test_init_writes_a_spec_that_can_be_planned_and_never_over_a_file(embedded):
    path = embedded.folder / "new.yaml"
    assert embedded.run("bqfleet", "init", path).code == 0
    refused(embedded.run("bqfleet", "init", path), 2, "exists already")
    # All of it stands but for the dataset, which is the user's to name.
    done = embedded.bqfleet("plan", "--project", embedded.bq.project, "--set", f"write.table={embedded.dataset}.squares", path)
    assert done.code == 0 and "does not exist and will be created" in done.out, done


# -- the spec


SPECS = {
    "no yaml": ("batch: [b\n", ":2:1: ", ""),
    "unknown key": ("batch: b\nitms: {}\n", ":2:1: ", 'unknown key "itms"; did you mean "items"?'),
    "repeated key": ("batch: b\nbatch: c\n", ":2:1: ", '"batch" is given twice'),
    "wrong type": ("batch: b\nitems: {list: [a]}\njob: {handler: h, attempts: lots}\n", ":3:29: ", "lots"),
    "wrong unit": ("batch: b\nitems: {list: [a]}\njob: {handler: h, timeout: 30}\n", ":3:28: ", '"30" is not a duration'),
    "no flow": ("batch: b\nitems: {list: a: b}\n", ":2:", ""),
    "unset variable": ("batch: ${NOT_SET_ANYWHERE}\n", ":1:8: ", "${NOT_SET_ANYWHERE} is not set"),
    "no keys": ("batch: b\nitems: {list: [a]}\njob: {handler: h}\nwrite: {table: d.t}\n", ":4:8: ", "write.keys is missing"),
    "worker tables": ("batch: b\nitems: {list: [a]}\njob: {handler: h}\nwrite: {table: d.t, mode: replace, via: worker-tables}\n", ":4:41: ", "worker-tables shows rows"),
}


@pytest.mark.parametrize("text, place, said", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("command", ["plan", "run", "try"])
def test_a_spec_that_is_wrong_is_told_with_its_place(make_scene, command, text, place, said):
    scene = make_scene()
    scene.write("spec.yaml", text)
    refused(scene.run("bqfleet", command, "spec.yaml"), 2, f"spec.yaml{place}", said)


def test_set_is_checked_as_the_file_is(batch):
    refused(batch.plan("--set", "job.timeout=soon"), 2, "--set job.timeout", '"soon" is not a duration')
    refused(batch.plan("--set", "job.timout=3s"), 2, 'unknown key "timout"; did you mean "timeout"?')


def test_a_run_in_one_process_needs_its_handler_in_the_spec(batch):
    batch.change(handlers={"predict": {"exec": ["cat"]}}, job={"handler": "perdict"})
    refused(batch.run(), 2, 'handlers does not define "perdict"', 'did you mean "predict"?')
    batch.untouched()


# -- items


ITEMS = {
    "no json": ({"file": "items.x", "key": "k"}, '{"k":"a"}\n{"k":"b"\n', "items.x:2: not a line of JSON"),
    "no object": ({"file": "items.x", "key": "k"}, '{"k":"a"}\n[1]\n', "items.x:2: not a JSON object"),
    "no key": ({"file": "items.x", "key": "k"}, '{"k":"a"}\n{"q":1}\n', 'items.x:2: the field "k" (items.key) is missing'),
    "repeated key": ({"file": "items.x", "key": "k"}, '{"k":"a"}\n{"k":"b"}\n{"k":"a"}\n', 'items.x:3: the key "a" is used twice, first in line 1'),
    "short record": ({"csv": "items.x", "key": "k"}, "k,n\na,1\nb\n", "items.x:3: 1 field, and the header has 2 columns"),
    "no key column": ({"csv": "items.x", "key": "playr"}, "player,n\na,1\n", 'did you mean "player"?'),
    "no file": ({"file": "nowhere.ndjson", "key": "k"}, "", "nowhere.ndjson: cannot be read: No such file"),
    "repeated value": ({"list": ["a", "a"]}, "", 'the key "a" is used twice'),
}


@pytest.mark.parametrize("items, text, said", ITEMS.values(), ids=ITEMS)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_items_that_are_wrong_end_it_with_nothing_written(batch, command, items, text, said):
    batch.scene.write("items.x", text)
    batch.change(items=items)
    refused(batch.plan() if command == "plan" else batch.run(), 2, said)
    batch.untouched()


def test_items_of_the_command_line_have_no_place_in_the_spec(batch):
    refused(batch.run("--set", "items={list: [a, a]}"), 2, 'with --set: items.list, value 2: the key "a" is used twice')
    batch.untouched()


def test_items_may_come_from_stdin(batch):
    done = batch.change(items={"file": "-", "key": "k"}).plan(stdin='{"k":"a"}\n{"k":"b","x":1}\n')
    assert done.code == 0 and "items      2; no key is repeated" in done.out, done
    refused(batch.plan(stdin='{"k":"a"}\nnonsense\n'), 2, "stdin:2: not a line of JSON")


def test_a_bad_item_after_increments_does_not_say_that_nothing_was_written(make_scene, bqmodel):
    scene = make_scene(bqmodel())
    batch, pipe = Batch(scene), scene.folder / "pipe"
    os.mkfifo(pipe)
    batch.change(items={"file": "pipe", "key": "k"}, finish={"every": "1s"})
    run = scene.start_bqfleet("run", "--linger", "50ms", "--progress", "none", batch.spec())
    with open(pipe, "w") as items:
        items.write('{"k":"a"}\n{"k":"bb"}\n')
        items.flush()
        wait_for(lambda: len(control(scene.bq, f"rows?table={batch.table}")) == 3, 60, "an increment")
        items.write("nonsense\n")
    done = run.wait(60)
    refused(done, 2, "increments before it are written, nothing else: ")
    assert "pipe:3: not a line of JSON" in done.err, done


def test_plan_shows_what_a_run_would_do_and_writes_nothing(batch):
    done = batch.plan()
    assert done.code == 0, done
    for text in "items      2", "keys       k", "MERGE INTO", batch.table, "k                        STRING REQUIRED":
        assert text in done.out, done
    shown = json.loads(batch.plan("--output", "json", "--limit", "1").out)
    assert shown["items"] == {"count": 2, "more": False, "keys_checked": True, "over_limit": 0, "first": [{"item": 0, "key": "a"}]}
    assert shown["target"]["exists"] and shown["keys"] == ["k"] and shown["sql"].startswith("MERGE INTO")
    batch.untouched()


def test_beyond_a_million_items_plan_says_that_keys_are_not_compared(batch):
    batch.scene.write("keys.txt", "".join(f"{n}\n" for n in range(1_000_002)) + "5\n")
    done = batch.change(items={"lines": "keys.txt"}).plan(timeout=180)
    assert done.code == 0 and "repeated keys are not checked among more than 1,000,000" in done.out, done


def test_an_item_over_the_brokers_limit_fails_alone(batch):
    batch.scene.items([{"k": "a"}, {"k": "huge", "x": "x" * 1_000_000}, {"k": "bb"}])
    batch.change(items={"file": "items.ndjson", "key": "k"}, finish={"tolerate": 1})
    done = batch.run("--failed", "failed.ndjson", timeout=120)
    assert done.code == 0, done
    assert [r["k"] for r in batch.rows()] == ["a", "bb", "old"]
    failed = [json.loads(line) for line in (batch.scene.folder / "failed.ndjson").read_text().splitlines()]
    assert [line["k"] for line in failed] == ["huge"] and failed[0]["_bqfleet"]["error"], failed


# -- the target


def test_a_target_that_does_not_exist_is_refused_with_an_offer(batch):
    batch.change(write={"table": batch.scene.table("nope")})
    for done in batch.plan(), batch.run():
        refused(done, 2, f"{batch.scene.table('nope')} does not exist", "write: {create: {fields:")
    refused(batch.change(write={"table": "no_such_dataset.t"}).plan(), 2, "dataset local.no_such_dataset does not exist")
    batch.untouched()


def test_write_create_makes_the_target(batch):
    table = batch.scene.table("fresh")
    batch.change(write={"table": table, "create": {"fields": {"k": "STRING REQUIRED", "n": "INT64"}}})
    done = batch.plan()
    assert done.code == 0 and "does not exist and will be created" in done.out, done
    assert batch.scene.bq.get_table(table) is None  # plan only says so
    done = batch.run(timeout=120)
    assert done.code == 0, done
    assert sorted((r["k"], r["n"]) for r in batch.scene.bq.rows(table)) == [("a", 1), ("bb", 2)]


WRITES = {
    "no such key": ({"keys": ["nope"]}, "nope"),
    "float key": ({"keys": ["f"]}, "f"),
    "no such order": ({"order_by": "nope"}, "nope"),
    "no such kept": ({"insert_only": ["nope"]}, "nope"),
    "no such dataset": ({"staging": "no_such_dataset"}, "dataset local.no_such_dataset does not exist"),
}


@pytest.mark.parametrize("write, said", WRITES.values(), ids=WRITES)
def test_columns_and_datasets_that_do_not_fit_are_refused(batch, write, said):
    batch.scene.bq.create_table(batch.scene.table("f"), columns("k STRING", "f FLOAT64"))
    batch.change(write={"table": batch.scene.table("f"), **write})
    for done in batch.plan(), batch.run():
        refused(done, 2, "spec.yaml:", said)


def test_no_project_is_told_at_once(make_scene, emulator):
    scene = make_scene(emulator)
    spec = scene.write("spec.yaml", "batch: b\nitems: {list: [a]}\njob: {handler: h}\nwrite: {table: d.t, keys: [k]}\n")
    refused(scene.run("bqfleet", "plan", spec), 2, "no project: give --project")


# -- handlers and rows


@pytest.mark.parametrize("file, said", [("none.pem", "none.pem: cannot be read: No such file"), (".", "cannot be read: Is a directory"), ("spec.yaml", "holds no certificate")])
def test_a_ca_file_that_is_none_is_told_before_anything_else(make_scene, file, said):
    scene = make_scene()
    handlers = {"h": {"exec": ["true"]}}
    spec = scene.spec(batch="b", project="p", items={"list": ["a"]}, job={"handler": "h"}, handlers=handlers, write={"table": "d.t", "keys": ["k"]})
    nobody = f"127.0.0.1:{free_port()}"
    path = str(scene.folder / file)
    for args in (["bqfleet", "run", spec], ["bqfleet", "run", "--brokers", nobody, spec], ["bqfleet", "config", "check"], ["bqfleet-worker", "--brokers", nobody, "--handler", "h=true"]):
        done = scene.run(*args, "--ca-file", path, timeout=60)
        assert done.code == 2 and "--ca-file: " in done.err and said in done.err, done


def test_a_handler_that_cannot_start_is_named_and_nothing_is_written(batch):
    batch.change(handlers={"h": {"exec": ["/nowhere/predict", "--fast"]}})
    done = batch.run(timeout=120)
    assert done.code in (3, 4), done
    assert "/nowhere/predict" in done.err, done
    assert [r["k"] for r in batch.rows()] == ["old"]


ROWS = {
    "wrong type": ("return [{'k': key, 'n': 'three'}]", "n"),
    "unknown column": ("return [{'k': key, 'm': 3}]", "m"),
    "no key": ("return [{'n': 3}]", "k"),
    "over size": ("return [{'k': key, 'note': 'x' * 40_000_000}]", ""),
    "no object": ("return [[1]]", ""),
}


@pytest.mark.parametrize("body, said", ROWS.values(), ids=ROWS)
def test_a_wrong_row_fails_its_item_and_names_the_column(embedded, body, said):
    batch = Batch(embedded, f"if key == 'a': {body}\n{ECHO}")
    held = batch.run("--failed", "failed.ndjson", timeout=120)
    assert held.code == 3, held
    assert [r["k"] for r in batch.rows()] == ["old"]
    failed = [json.loads(line) for line in (embedded.folder / "failed.ndjson").read_text().splitlines()]
    assert len(failed) == 1 and "a" in failed[0].values() and said in json.dumps(failed[0]), failed
    batch.change(batch=f"again-{embedded.id}", finish={"tolerate": "50%"})
    assert batch.run(timeout=120).code == 0
    assert [r["k"] for r in batch.rows()] == ["bb", "old"]


# -- services that are not there


def test_a_bigquery_that_is_not_there_is_told_after_a_bounded_wait(make_scene):
    scene = make_scene()
    port = free_port()
    spec = scene.spec(batch="b", items={"list": ["a"]}, job={"handler": "h"}, handlers={"h": {"exec": ["cat"]}},
                      write={"table": "d.t", "keys": ["k"]})
    for command in "plan", "run":
        begun = time.monotonic()
        done = scene.run("bqfleet", command, "--wait", "1s", spec, env={"BIGQUERY_EMULATOR_HOST": f"127.0.0.1:{port}"})
        refused(done, 4, f"no answer from BigQuery at http://127.0.0.1:{port} within 1 s", "refused")
        assert time.monotonic() - begun < 15


def test_a_bigquery_that_says_nothing_is_told_after_a_bounded_wait(make_scene):
    scene = make_scene()
    spec = scene.spec(batch="b", items={"list": ["a"]}, job={"handler": "h"}, write={"table": "d.t", "keys": ["k"]})
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        done = scene.run("bqfleet", "plan", "--wait", "1s", spec, env={"BIGQUERY_EMULATOR_HOST": f"127.0.0.1:{port}"})
        refused(done, 4, f"no answer from BigQuery at http://127.0.0.1:{port} within 1 s")


def test_without_credentials_it_says_which_there_are(make_scene):
    scene = make_scene()
    spec = scene.spec(batch="b", items={"list": ["a"]}, job={"handler": "h"}, write={"table": "d.t", "keys": ["k"]})
    refused(scene.run("bqfleet", "plan", spec), 4, "no credentials for BigQuery", "BQFLEET_TOKEN", "BIGQUERY_EMULATOR_HOST")


def test_a_broker_that_is_not_there_is_told_after_a_bounded_wait(make_scene, emulator):
    port = free_port()
    scene = make_scene(emulator)
    batch = Batch(scene)
    for arguments in ["topics", "check"], ["submit", batch.spec()], ["run", batch.spec()], ["status"]:
        begun = time.monotonic()
        done = scene.run("bqfleet", *arguments, "--brokers", f"127.0.0.1:{port}", "--wait", "2s")
        refused(done, 4, f"127.0.0.1:{port}", "answer")
        assert time.monotonic() - begun < 20


# -- a fleet


def test_topics_are_created_once_and_checked(fleet):
    refused_first = fleet.bqfleet("topics check")
    assert refused_first.code == 1 and refused_first.out.count("does not exist") == 5, refused_first
    done = fleet.bqfleet("topics create", "--partitions", "3")
    assert done.code == 0 and done.out.count("created") == 5, done
    again = fleet.bqfleet("topics create")
    assert again.code == 0 and again.out.count("exists") == 5, again
    check = fleet.bqfleet("topics check", "--output", "json")
    assert check.code == 0, check
    topics = {t["topic"]: t for t in json.loads(check.out)["topics"]}
    assert all(t["state"] == "ok" for t in topics.values()) and "3 partitions" in topics[fleet.work_topic]["text"], check


def test_a_handler_that_no_worker_offers_is_warned_of_and_waited_for_visibly(fleet):
    fleet.create_topics("--partitions", "2")
    batch = Batch(fleet)
    done = fleet.bqfleet("submit", batch.spec())
    assert done.code == 0 and "no live worker" in done.err and '"h"' in done.err.replace("'", '"'), done
    run = json.loads(fleet.bqfleet("status", "--output", "json").out)["runs"][0]["run"]
    waiting = fleet.bqfleet("status", run)
    assert waiting.code == 0 and "waits  for a worker of queue" in waiting.out and "(0 live, none does)" in waiting.out, waiting
    assert fleet.bqfleet("cancel", run).code == 0


# -- interrupted


@pytest.mark.parametrize("moment", ["at the start", "with items in flight"])
def test_an_interrupt_ends_it_cleanly_with_nothing_half_written(embedded, moment):
    batch = Batch(embedded, f"open('started', 'w').close(); time.sleep(0.2)\n{ECHO}")
    batch.change(items={"range": {"from": 1, "to": 1000}})
    program = embedded.start_bqfleet("run", "--parallel", "2", "--grace", "5s", batch.spec())
    if moment == "with items in flight":
        wait_for(lambda: (embedded.folder / "started").exists(), 60, "an item that has begun")
    program.interrupt()
    done = program.wait(60)
    assert done.code in (130, -2), done
    assert [r["k"] for r in batch.rows()] == ["old"], done
