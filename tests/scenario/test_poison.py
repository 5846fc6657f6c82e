"""Items that take down what runs them, on a real broker: only the culprit fails, the others are written row by row."""
import json
import shlex
import threading

import pytest

from support.fleet import (assert_commits_follow_manifests, assert_honest, assert_target, batch, create_target, expected,
                           handler_body, make_items, no_shards_left, summary, target_rows)
from support.processes import wait_for

FAST = ("--linger", "100ms", "--session", "6s", "--parallel", "4")
KILL_THE_WORKER = "os.kill(os.getppid(), 9)\n    time.sleep(60)"
NOTE_ATTEMPT = "open('attempts', 'a').write(f\"{payload['n']} {item['attempt']} {os.getppid()}\\n\")"


@pytest.fixture
def scene(make_scene, bqmodel, broker):
    made = make_scene(bqmodel("--load-ms", "50", "--dml-ms", "100"), broker.address)
    create_target(made)
    made.create_topics("--partitions", "4")
    return made


class Supervisor:
    """Starts a worker, and another one whenever it dies: under the same static name, or each under a new one."""

    def __init__(self, scene, handlers, name, static):
        self.scene, self.handlers, self.name, self.static = scene, handlers, name, static
        self.deaths, self.over, self.workers = 0, threading.Event(), []
        self.start()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def start(self):
        program = f"{self.name}-{len(self.workers)}"
        flags = ("--static-member", "--name", self.name) if self.static else ("--name", program)
        self.workers.append(self.scene.start("bqfleet-worker", *self.scene.flags, *flags, "--handler", f"work={shlex.join(self.handlers['work'])}",
                                             *FAST, name=program))

    def watch(self):
        while not self.over.is_set():
            if self.workers[-1].running:
                self.over.wait(0.05)
                continue
            self.deaths += 1
            self.start()

    def stop(self):
        self.over.set()
        self.thread.join()


@pytest.fixture
def supervise(scene):
    made = []

    def start(handlers, name="pod", static=True):
        made.append(Supervisor(scene, handlers, name, static))
        return made[-1]
    yield start
    for supervisor in made:
        supervisor.stop()


def work(scene, trouble=None, seconds=0.02):
    extra = NOTE_ATTEMPT + (f"\nif payload['n'] in {trouble[0]}:\n    {trouble[1]}" if trouble else "")
    return {"work": scene.handler(handler_body(seconds, extra=extra))}


def attempts(scene):
    """{item: the attempts that handlers were told}"""
    told = {}
    for line in (scene.folder / "attempts").read_text().splitlines():
        item, attempt, _ = line.split()
        told.setdefault(int(item), set()).add(int(attempt))
    return told


def wait_at_work(scene, worker):
    told = scene.folder / "attempts"
    wait_for(lambda: told.exists() and f" {worker.pid}\n" in told.read_text(), 60, f"an item at work in {worker.name}")


def failures(scene):
    return [json.loads(line) for line in (scene.folder / "failed.ndjson").read_text().splitlines()]


def assert_only(scene, items, poison):
    """Those of poison have failed, for what they did to their worker; all others are written and lost no attempt."""
    failed = {line["n"]: line["_bqfleet"] for line in failures(scene)}
    assert sorted(failed) == sorted(poison)
    for line in failed.values():
        assert "killed its worker 2 times while nothing else ran" in line["error"], line
        assert line["attempts"] == 2, line
    assert_target(scene, expected([item for item in items if item["n"] not in poison]))
    assert all(told == {1} for told in attempts(scene).values())
    scene.wait_all_committed()
    assert_honest(scene.bq)
    no_shards_left(scene)


def test_an_item_that_kills_a_worker_of_one_name_each_time_fails_alone(scene, supervise):
    items = make_items(120)
    pod = supervise(work(scene, ({41}, KILL_THE_WORKER)))
    run = scene.start_bqfleet("run", batch(scene, items, finish={"tolerate": 1}), "--output", "json", "--failed", scene.folder / "failed.ndjson")
    wait_for(lambda: pod.deaths >= 5, 150, "a death of the item alone")
    wait_for(lambda: f"(key {items[41]['k']}) alone" in scene.bqfleet("status").out, 60, "the item in quarantine, in the status of a worker in a crash loop")
    done = run.wait(150)
    assert done.code == 0, done
    assert summary(done)["failed"] == 1
    assert_only(scene, items, {41})
    assert pod.deaths == 6


def test_several_such_items_among_two_workers_of_one_name_each(scene, supervise):
    items = make_items(300)
    handlers = work(scene, ({3, 5, 120}, KILL_THE_WORKER))
    supervise(handlers, "a")
    supervise(handlers, "b")
    run = scene.start_bqfleet("run", batch(scene, items, finish={"tolerate": 3}), "--output", "json", "--failed", scene.folder / "failed.ndjson")
    done = run.wait(240)
    assert done.code == 0, done
    assert_only(scene, items, {3, 5, 120})


def test_an_item_that_kills_ever_new_workers_holds_the_run(scene, supervise):
    items = make_items(120)
    pod = supervise(work(scene, ({41}, KILL_THE_WORKER)), static=False)
    run = scene.start_bqfleet("run", batch(scene, items), "--output", "json", "--failed", scene.folder / "failed.ndjson")
    done = run.wait(240)
    assert done.code == 3, done
    assert target_rows(scene) == []
    assert pod.deaths <= 8
    accepted = scene.bqfleet("finish", summary(done)["run"], "--accept-failed")
    assert accepted.code == 0, accepted
    assert_only(scene, items, {41})


def test_workers_killed_from_outside_fail_nothing(scene):
    items = make_items(200)
    flags = (*FAST, "--static-member", "--name", "pod")
    worker = scene.worker(work(scene, seconds=0.05), *flags)
    run = scene.start_bqfleet("run", batch(scene, items), "--output", "json")
    for _ in range(5):
        wait_at_work(scene, worker)
        worker.kill()
        worker = scene.worker(work(scene, seconds=0.05), *flags)
    done = run.wait(120)
    assert done.code == 0, done
    assert_target(scene, expected(items))
    assert all(told == {1} for told in attempts(scene).values())
    scene.wait_all_committed()


def test_restarts_and_hand_overs_in_order_never_count(scene):
    items = make_items(1500)
    flags = (*FAST, "--grace", "20s")
    static = (*flags, "--static-member", "--name", "pod")
    handlers = {"work": scene.handler(handler_body(extra=f"{NOTE_ATTEMPT}\nif not os.path.exists('hurry'):\n    time.sleep(0.3)"))}
    other = scene.worker(handlers, *flags)
    workers = [scene.worker(handlers, *static)]
    run = scene.start_bqfleet("run", batch(scene, items), "--output", "json")
    for round in range(20):
        wait_at_work(scene, workers[-1])
        workers[-1].terminate()
        assert workers[-1].wait(40).code == 0
        workers.append(scene.worker(handlers, *static))
        if round == 10:  # one without a static name leaves for good: the group is dealt anew
            other.terminate()
            assert other.wait(40).code == 0
    scene.write("hurry", "")
    done = run.wait(120)
    assert done.code == 0, done
    assert_target(scene, expected(items))
    assert all(told == {1} for told in attempts(scene).values())
    assert not [worker.name for worker in [other, *workers] if "last worker died" in worker.err]
    assert_commits_follow_manifests(scene)


# -- children that die, many items at once


def test_a_storm_of_crashes_fails_only_its_culprits(embedded):
    create_target(embedded)
    items = make_items(500)
    poison = {7, 8, 150, 310, 499}
    body = handler_body(extra=f"{NOTE_ATTEMPT}\nif payload['n'] in {poison}:\n    import sys\n    print('item', payload['n'], 'is poison', file=sys.stderr, flush=True)\n    os._exit(7)")
    spec = batch(embedded, items, handlers={"work": {"exec": embedded.handler(body), "window": 16}}, job={"attempts": 2}, finish={"tolerate": 5})
    done = embedded.bqfleet("run", spec, "--parallel", "32", "--output", "json", "--failed", embedded.folder / "failed.ndjson", timeout=120)
    assert done.code == 0, done
    assert_target(embedded, expected([item for item in items if item["n"] not in poison]))
    failed = {line["n"]: line["_bqfleet"] for line in failures(embedded)}
    assert set(failed) == poison
    for n, line in failed.items():
        assert line["attempts"] == 2 and "exit status 7" in line["error"] and f"item {n} is poison" in line["error"], line
    assert all(told == ({1, 2} if n in poison else {1}) for n, told in attempts(embedded).items())


@pytest.mark.parametrize("window", [1, 8])
def test_a_child_that_leaks_until_it_is_killed_fails_nobody(embedded, window):
    create_target(embedded)
    items = make_items(60)
    leak = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\nrows_of.kept = getattr(rows_of, 'kept', []) + [bytearray(90 << 20)]"
    body = handler_body(extra=f"try:\n    " + leak.replace("\n", "\n    ") + "\nexcept MemoryError:\n    os.kill(os.getpid(), 9)")
    spec = batch(embedded, items, handlers={"work": {"exec": embedded.handler(body), "window": window}}, job={"attempts": 1})
    done = embedded.bqfleet("run", spec, "--parallel", "8", "--output", "json", timeout=120)
    assert done.code == 0, done
    assert_target(embedded, expected(items))


def test_a_command_that_is_killed_fails_its_item_alone(embedded):
    create_target(embedded)
    items = make_items(20)
    script = embedded.write("command.py", "import json, os, sys\npayload = json.load(sys.stdin)\n"
                            "if payload['n'] == 5:\n    print('five is poison', file=sys.stderr, flush=True)\n    os.kill(os.getpid(), 9)\n"
                            "for part in range(2):\n    print(json.dumps({'k': payload['k'], 'part': part, 'v': payload['n'] * 10 + part, "
                            "'note': f\"{payload['k']}/{part}\", 'version': 1}))\n")
    spec = batch(embedded, items, handlers={"work": {"command": ["python3", "-S", str(script), "{key}"]}}, job={"attempts": 2}, finish={"tolerate": 1})
    done = embedded.bqfleet("run", spec, "--parallel", "4", "--output", "json", "--failed", embedded.folder / "failed.ndjson", timeout=120)
    assert done.code == 0, done
    assert_target(embedded, expected(items[:5] + items[6:]))
    [failed] = failures(embedded)
    assert failed["n"] == 5 and failed["_bqfleet"]["attempts"] == 2 and "five is poison" in failed["_bqfleet"]["error"]


# -- failures in a row


REFUSE = "if payload['n'] >= 20:\n    time.sleep(0.02)\n    raise ValueError('no such player')"


def test_failures_in_a_row_end_the_run_in_one_process(embedded):
    create_target(embedded)
    spec = batch(embedded, make_items(2000), handlers={"work": {"exec": embedded.handler(handler_body(extra=REFUSE)), "window": 4}}, job={"attempts": 1},
                 finish={"stop_after": 10, "tolerate": "100%"})
    done = embedded.bqfleet("run", spec, "--parallel", "4", timeout=90)
    assert done.code == 4, done
    assert "items failed in a row, at last: " in done.err and "no such player" in done.err, done
    assert_target(embedded, [])


def test_failures_in_a_row_end_the_run_on_a_fleet(scene):
    worker = scene.worker({"work": scene.handler(handler_body(extra=REFUSE))}, *FAST)
    spec = batch(scene, make_items(4000), job={"attempts": 1}, finish={"stop_after": 10, "tolerate": "100%"})
    run = scene.start_bqfleet("run", spec, "--output", "json")
    done = run.wait(120)
    assert done.code == 4, done
    assert target_rows(scene) == []
    scene.wait_all_committed()
    no_shards_left(scene)
    assert worker.running


def test_failures_among_good_items_do_not_end_the_run(embedded):
    create_target(embedded)
    items = make_items(200)
    body = handler_body(extra="if payload['n'] % 2:\n    raise ValueError('odd')")
    spec = batch(embedded, items, handlers={"work": {"exec": embedded.handler(body)}}, job={"attempts": 1}, finish={"stop_after": 60, "tolerate": "50%"})
    done = embedded.bqfleet("run", spec, "--parallel", "2", "--output", "json", timeout=90)
    assert done.code == 0, done
    assert_target(embedded, expected(items[::2]))
