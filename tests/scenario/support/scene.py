"""What one test plays in: its own folder, dataset and topics, on services that all tests share."""
import json
import os
import pathlib
import shlex
import sys
import uuid

from support.kafka import Kafka
from support.processes import MARK, Program, kill_all, marked, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("BQF_BUILD") or ROOT / "build").resolve()
BIN = pathlib.Path(os.environ.get("BQF_BIN") or BUILD / "asan").resolve()
RELEASE = BUILD / "release" if (BUILD / "release/bqfleet").exists() else BIN


def environment(mark, folder, **more):
    """Ours, without what could change the product's settings; more with value None takes a name out."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("BQFLEET_", "GOOGLE_", "BIGQUERY_", "CLOUDSDK_"))}
    keep |= {MARK: mark, "XDG_CONFIG_HOME": str(folder / "config"), "PYTHONDONTWRITEBYTECODE": "1",
             "PYTHONPATH": str(ROOT / "deploy/local"), "NO_COLOR": "1"}
    return {k: v for k, v in (keep | more).items() if v is not None}


class Scene:
    """bq: a BigQuery client, or None; brokers: Kafka's address, or None for embedded runs."""

    def __init__(self, folder, bq=None, brokers=None):
        self.id = uuid.uuid4().hex[:8]
        self.folder, self.bq, self.brokers = folder, bq, brokers
        self.prefix, self.dataset, self.queue = f"bqf_{self.id}.", f"ds_{self.id}", "default"
        self.kafka = Kafka(brokers) if brokers else None
        self.programs = []
        self.bin = BIN  # or RELEASE, for a test whose subject is size
        self.env = environment(self.id, folder, BIGQUERY_EMULATOR_HOST=bq.address if bq else None)
        if bq:
            bq.create_dataset(self.dataset)

    flags = property(lambda self: ["--brokers", self.brokers, "--prefix", self.prefix] if self.brokers else [])

    def table(self, name):
        return f"{self.dataset}.{name}"

    # -- files

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def items(self, items, name="items.ndjson"):
        """NDJSON of dictionaries."""
        return self.write(name, "".join(json.dumps(item) + "\n" for item in items))

    def spec(self, name="spec.yaml", **parts):
        """A spec as JSON, which is YAML too: spec(batch=..., items={...}, job={...}, ...)."""
        return self.write(name, json.dumps({"project": self.bq.project if self.bq else "local", **parts}, indent=1))

    def handler(self, body, name="handler.py"):
        """A handler whose rows_of(item, hello) has this body; its command line as a list, for specs and --handler alike."""
        lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
        path = self.write(name, f"import json, os, time\nimport bqfleet\n\n\ndef rows_of(item, hello):\n"
                                f"    key, payload, params = item['key'], item.get('payload'), hello.get('params')\n{lines}\n\n\n"
                                f"bqfleet.serve(rows_of)\n")
        return [sys.executable, str(path)]

    # -- programs

    def start(self, program, *args, name=None, stdin=None, env=None, cwd=None):
        """A program in the background. program: a name below self.bin, or a path."""
        path = self.bin / program if "/" not in str(program) else program
        name = name or f"{pathlib.Path(path).name}-{len(self.programs)}"
        started = Program([path, *args], self.env | (env or {}), self.folder, name, cwd, stdin)
        self.programs.append(started)
        return started

    def run(self, program, *args, timeout=90.0, **more):
        """A program to its end."""
        return self.start(program, *args, **more).wait(timeout)

    def bqfleet(self, command, *args, timeout=90.0, **more):
        """`bqfleet COMMAND ARGS` to its end, on this scene's broker and topics if it has one. COMMAND may have several words."""
        return self.run("bqfleet", *command.split(), *self.flags, *args, timeout=timeout, **more)

    def start_bqfleet(self, command, *args, **more):
        return self.start("bqfleet", *command.split(), *self.flags, *args, **more)

    def create_topics(self, *args):
        done = self.bqfleet("topics create", *args)
        assert done.code == 0, done
        return done

    def worker(self, handlers, *args, name=None, **more):
        """A worker process; handlers: {name: command line as list or text}."""
        name = name or f"worker-{len(self.programs)}"
        offered = []
        for handler, command in handlers.items():
            offered += ["--handler", f"{handler}={command if isinstance(command, str) else shlex.join(command)}"]
        return self.start("bqfleet-worker", *self.flags, "--name", name, *offered, *args, name=name, **more)

    def workers(self, count, handlers, *args, **more):
        return [self.worker(handlers, *args, **more) for _ in range(count)]

    # -- what the bus says

    work_topic = property(lambda self: f"{self.prefix}work.{self.queue}")
    group = property(lambda self: f"{self.prefix}workers.{self.queue}")

    def unfinished(self):
        """Messages of the work topic that the group has not committed: {partition: how many}, without the zeros."""
        done = self.kafka.committed(self.group, self.work_topic)
        marks = self.kafka.watermarks(self.work_topic)
        left = {p: high - (done[p].offset if done[p].offset is not None else low) for p, (low, high) in marks.items()}
        return {p: n for p, n in left.items() if n > 0}

    def wait_all_committed(self, timeout=30.0):
        wait_for(lambda: not self.unfinished(), timeout, "all offsets committed")

    # -- the end

    def close(self):
        """Ends everything in order, then checks that nothing of this test is left."""
        for program in self.programs:
            program.go_on()
            program.terminate()
        slow = []
        for program in self.programs:
            try:
                program.popen.wait(20)
            except Exception:  # still running: killed below, and reported
                slow.append(program.name)
        try:
            assert not slow, f"20 s after SIGTERM these still ran: {slow}"
            wait_for(lambda: not marked(self.id), 10, "the end of all child processes")
        except AssertionError as error:
            left = marked(self.id)
            kill_all(left)
            raise AssertionError(f"{error}; left were {left}") from None
