"""Shared libraries as handlers: their host on its pipes, runs in one process, a fleet, and the README's example as it stands there."""
import json
import re
import shutil
import subprocess

import pytest

from support.bigquery import columns
from support.fleet import summary
from support.scene import BIN, ROOT

HELLO = {"hello": 1, "run": "r", "batch": "b", "params": None, "schema": None}


def library(name):
    return BIN / "tests" / f"plugin_{name}.so"


def converse(name, keys=(), params=None, program="bqfleet-worker"):
    """What a host answers to items with these keys, sent all at once: (answers by item, other answers, stderr, exit code)."""
    lines = [HELLO | {"params": params}]
    lines += [{"item": i, "key": key, "attempt": 1, "deadline_ms": 1, "payload": None} for i, key in enumerate(keys)]
    done = subprocess.run([BIN / program, "--plugin-host", library(name) if isinstance(name, str) else name], capture_output=True, timeout=60,
                          input="".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())
    answers, others = {}, []
    for line in filter(None, done.stdout.split(b"\n")):
        answer = json.loads(line)
        if "item" in answer:
            answers.setdefault(answer["item"], []).append(answer)
        else:
            others.append(answer)
    return answers, others, done.stderr.decode(), done.returncode


def rows_of(answers):
    return [row for answer in answers for row in answer.get("rows", [])]


@pytest.mark.parametrize("program", ["bqfleet-worker", "bqfleet"])
def test_items_become_rows_in_both_programs(program):
    answers, others, log, code = converse("demo", ["a", "b\"\u00e9\n", "none", "lines"], program=program)
    assert code == 0 and others == [{"ready": True}]
    assert rows_of(answers[0]) == [{"k": "a", "v": 0}] and answers[0][-1]["done"]
    assert rows_of(answers[1]) == [{"k": "b\"\u00e9\n", "v": 1}]
    assert rows_of(answers[2]) == [] and answers[2][-1]["done"]
    assert rows_of(answers[3]) == [{"k": "lines", "v": 1}]
    assert "opened for b" in log and "closed after 4 items" in log


def test_each_failure_is_told_as_its_kind():
    keys = ["retry", "task", "fatal", "silent", "odd", "told", "rowless"]
    answers = {keys[i]: a[-1]["error"] for i, a in converse("demo", keys)[0].items()}
    assert answers["retry"] == {"kind": "retry", "message": "not this time"}
    assert answers["task"] == {"kind": "task", "message": "line 1 \"quoted\"\nline 2"}
    assert answers["fatal"] == {"kind": "fatal", "message": "the database is gone for good"}
    assert answers["silent"]["kind"] == "task" and "returned 2 and gave no message" in answers["silent"]["message"]
    assert answers["odd"]["kind"] == "task" and "42" in answers["odd"]["message"]
    assert answers["told"] == {"kind": "task", "message": "told and forgotten"}
    assert answers["rowless"]["kind"] == "task" and "JSON object" in answers["rowless"]["message"]


def test_what_a_plugin_prints_or_reads_is_not_the_protocols():
    answers, others, log, code = converse("demo", ["print", "stdin", "x"])
    assert code == 0 and others == [{"ready": True}]
    assert [rows_of(answers[i]) for i in range(3)] == [[{"k": k, "v": i}] for i, k in enumerate(["print", "stdin", "x"])]
    assert "forged" in log


def test_many_rows_of_an_item_come_in_pieces_and_progress_is_shown():
    answers, _, _, code = converse("demo", ["many:20000", "progress"])
    assert code == 0 and len(answers[0]) > 5
    assert [row["v"] for row in rows_of(answers[0])] == list(range(20000))
    assert any("progress" in answer for answer in answers[1])


def test_items_of_a_window_are_worked_on_in_their_order_by_one_state():
    answers, _, _, _ = converse("demo", ["state"] * 50)
    assert [row["v"] for i in range(50) for row in rows_of(answers[i])] == list(range(1, 51))


@pytest.mark.parametrize("name", ["old", "newer"])
def test_libraries_of_earlier_and_later_headers_of_this_version_work(name):
    answers, others, _, code = converse(name, ["a", "b"])
    assert code == 0 and others == [{"ready": True}] and [rows_of(answers[i]) for i in range(2)] == [[{"k": "old", "v": 1}]] * 2


@pytest.mark.parametrize("name, complaint", [
    ("version", "was built for version 2 of bqfleet/handler.h, and this program has version 1"), ("small", "write sizeof(struct bqfleet_handler)"),
    ("empty", "has no process()"), ("null", "returned NULL"), ("other", "exports no function bqfleet_plugin()"), (ROOT / "README.md", "cannot be loaded"),
    ("absent", "No such file")])
def test_what_is_no_plugin_is_refused_at_once(name, complaint):
    answers, [refusal], log, code = converse(name, ["a"])
    assert code == 1 and answers == {} and complaint in refusal["error"]["message"] and complaint in log
    assert refusal["error"]["kind"] == "fatal"


def test_a_start_that_fails_says_why():
    answers, [refusal], log, code = converse("demo", ["a"], params={"open": "fatal"})
    assert code == 1 and not answers and refusal["error"] == {"kind": "fatal", "message": "the model is of another season"}
    answers, others, log, code = converse("demo", ["a"], params={"open": "retry"})
    assert code == 1 and not answers and not others and "the licence server is away" in log
    answers, others, log, code = converse("demo", ["a"], params={"open": "emit"})
    assert code == 1 and "emit() without an item" in log


# -- runs


def run(scene, keys, *flags, plugin="demo", window=1, params=None, **parts):
    scene.bq.create_table(scene.table("target"), columns("k STRING", "v INT64", "f FLOAT64"))
    shutil.copy(library(plugin), scene.folder / "handler.so")
    spec = scene.spec("spec.yaml", batch="plugins", items={"list": keys}, job={"handler": "work", "attempts": 2, "params": params, **parts.pop("job", {})},
                      handlers={"work": {"plugin": "handler.so", "window": window}}, write={"table": scene.table("target"), "mode": "append"}, **parts)
    return scene.bqfleet("run", spec, "--output", "json", *flags)


def target(scene):
    return sorted((r["k"], r["v"]) for r in scene.bq.rows(scene.table("target")))


@pytest.mark.parametrize("window", [1, 16])
def test_a_run_in_one_process(embedded, window):
    done = run(embedded, [f"k{i:03d}" for i in range(200)] + ["print", "retry", "none"], window=window)
    assert done.code == 0, done
    assert target(embedded) == sorted([(f"k{i:03d}", i) for i in range(200)] + [("print", 200), ("retry", 201)])


@pytest.mark.parametrize("window", [1, 8])
@pytest.mark.parametrize("culprit, words", [("crash", "about to crash"), ("exit", "exit status 7"), ("task", "quoted")])
def test_only_the_item_that_fails_is_missing(embedded, window, culprit, words):
    keys = [f"k{i:02d}" for i in range(20)]
    done = run(embedded, keys[:7] + [culprit] + keys[7:], "--failed", embedded.folder / "failed.ndjson", window=window, finish={"tolerate": 1})
    assert done.code == 0, done
    assert [k for k, _ in target(embedded)] == keys
    [failed] = [json.loads(line) for line in (embedded.folder / "failed.ndjson").read_text().splitlines()]
    assert failed["key"] == culprit and failed["_bqfleet"]["attempts"] == 2 and words in failed["_bqfleet"]["error"]


@pytest.mark.parametrize("plugin, params, complaint", [
    ("version", None, "was built for version 2"), ("other", None, "exports no function"), ("demo", {"open": "fatal"}, "the model is of another season"),
    ("demo", {"open": "retry"}, "the licence server is away")])
def test_a_plugin_that_cannot_start_ends_the_run(embedded, plugin, params, complaint):
    done = run(embedded, ["a", "b", "c"], plugin=plugin, params=params)
    assert done.code == 4 and complaint in done.err, done
    assert target(embedded) == []


def test_a_fatal_item_ends_the_run(embedded):
    done = run(embedded, ["a", "fatal", "b"])
    assert done.code == 4 and "the database is gone for good" in done.err, done


def test_a_fleets_workers_have_plugins(fleet):
    fleet.bq.create_table(fleet.table("target"), columns("k STRING", "v INT64", "f FLOAT64"))
    fleet.create_topics("--partitions", "4")
    fleet.workers(2, {"work": f"plugin:{library('demo')}"}, "--parallel", "2")
    spec = fleet.spec("spec.yaml", batch="plugins", items={"list": [f"k{i:03d}" for i in range(100)]}, job={"handler": "work"},
                      write={"table": fleet.table("target"), "mode": "append"})
    done = fleet.bqfleet("run", spec, "--output", "json")
    assert done.code == 0, done
    assert summary(done)["inserted"] == 100 and target(fleet) == [(f"k{i:03d}", i) for i in range(100)]


# -- the header and the README


def test_the_header_stands_alone_in_c_and_in_cpp(tmp_path):
    for compiler, flags in [("cc", ["-std=c11", "-xc"]), ("cc", ["-std=c99", "-xc"]), ("c++", ["-std=c++11", "-xc++"])]:
        if shutil.which(compiler) is None:
            pytest.skip(f"no {compiler}")
        source = tmp_path / "include.c"
        source.write_text("#include <bqfleet/handler.h>\n"
                          "static int work(void *s, const struct bqfleet_host *h, struct bqfleet_call *c, const struct bqfleet_item *i)\n"
                          "{\n    return s == NULL && BQFLEET_HAS(h, progress) ? h->emit(c, i->key.data, i->key.len) : BQFLEET_DONE;\n}\n"
                          "BQFLEET_PLUGIN(\"x\", NULL, work, NULL)\n")
        subprocess.run([compiler, *flags, "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only", "-I", ROOT / "include", source], check=True)


def factors(n):
    found, prime = {}, 2
    while n > 1:
        while n % prime == 0:
            found[prime] = found.get(prime, 0) + 1
            n //= prime
        prime += 1
    return found


def test_the_readmes_example_compiles_and_runs(embedded):
    section = (ROOT / "README.md").read_text().split("### A shared library as a handler")[1].split("\n### ")[0]
    embedded.write("factors.c", re.search(r"```c\n(.*?)```", section, re.S)[1])
    command = re.search(r"^    (cc .*)$", section, re.M)[1].replace("-I include", f"-Wall -Wextra -Werror -I {ROOT / 'include'}")
    subprocess.run(command, shell=True, cwd=embedded.folder, check=True)
    spec = re.search(r"```yaml\n(.*?)```", section, re.S)[1].replace("numbers.", f"{embedded.dataset}.").replace("1000000", "200")
    embedded.write("factors.yaml", spec)
    embedded.bq.create_table(embedded.table("factors"), columns("n INT64", "prime INT64", "times INT64"))
    done = embedded.bqfleet("run", embedded.folder / "factors.yaml", "--project", embedded.bq.project)
    assert done.code == 0, done
    rows = embedded.bq.rows(embedded.table("factors"))
    assert sorted((r["n"], r["prime"], r["times"]) for r in rows) == sorted((n, p, t) for n in range(1, 201) for p, t in factors(n).items())
