"""Handlers that die, loop and do not start, in one process: only the culprit fails, and the run ends."""
import json

import pytest

from support.fleet import assert_target, batch, create_target, expected, handler_body, make_items, summary


def run(scene, extra, window):
    create_target(scene)
    items = make_items(12)
    spec = batch(scene, items, handlers={"work": {"exec": scene.handler(handler_body(extra=extra)), "window": window}},
                 job={"attempts": 2, "timeout": "2s"}, finish={"tolerate": 1})
    return items, scene.bqfleet("run", spec, "--output", "json", "--failed", scene.folder / "failed.ndjson", timeout=60)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("trouble, reason", [("os._exit(7)", "exit status 7"), ("while True:\n        pass", "no answer within 2 s")],
                         ids=["dies", "loops"])
def test_only_the_item_that_kills_its_handler_fails(embedded, window, trouble, reason):
    items, done = run(embedded, f"if payload['n'] == 5:\n    {trouble}", window)
    assert done.code == 0, done
    assert_target(embedded, expected(items[:5] + items[6:]))
    assert summary(done)["failed"] == 1
    [failed] = [json.loads(line) for line in (embedded.folder / "failed.ndjson").read_text().splitlines()]
    assert failed["k"] == items[5]["k"] and failed["_bqfleet"]["attempts"] == 2
    assert reason in failed["_bqfleet"]["error"]


def test_a_start_that_cannot_ever_work_ends_the_run_with_its_reason(embedded):
    create_target(embedded)
    command = embedded.handler("return []")
    path = embedded.folder / "handler.py"
    path.write_text(path.read_text().replace("bqfleet.serve(rows_of)", "def start(hello):\n    raise bqfleet.Fatal('no model for ' + hello['batch'])\n\n\n"
                                             "bqfleet.serve(rows_of, start)"))
    done = embedded.bqfleet("run", batch(embedded, make_items(12), handlers={"work": {"exec": command}}), timeout=60)
    assert done.code == 4 and f"Fatal: no model for batch-{embedded.id}" in done.err and "does not start" not in done.err, done
    assert_target(embedded, [])


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("command", [["sh", "-c", "sleep 1; exit 3"], ["python3", "/nowhere/handler.py"], ["true"]], ids=["late", "soon", "at-once"])
def test_a_handler_that_ends_at_its_start_ends_the_run(embedded, window, command):
    create_target(embedded)
    spec = batch(embedded, make_items(12), handlers={"work": {"exec": command, "window": window}})
    done = embedded.bqfleet("run", spec, timeout=60)
    assert done.code == 4 and "does not start" in done.err, done
    assert_target(embedded, [])
