"""What the benches of a fleet share: a batch of items without rows, published beforehand; a worker; its manifests, as the broker stamped them."""
import os
import pathlib
import re
import time

import bench
from support import fleet
from support.bigquery import BigQuery, columns
from support.processes import Program, wait_for
from support.scene import Scene, environment

PARTITIONS = 8
PAYLOAD = '{{"player_id":"item-{0:07d}","season":2025,"team":"BOS","at_bats":{1},"home_runs":{2},"average":0.{1:03d}}}\n'


def make_items(folder, count, name="items.ndjson"):
    """About 100 bytes each."""
    path = folder / name
    if not path.exists():
        with open(path, "w", encoding="ascii") as out:
            out.writelines(PAYLOAD.format(i, i % 613, i % 41) for i in range(count))
    return path


def model(folder, *options):
    """The model of BigQuery: the fleet asks it for the target's schema, and for nothing else when items have no rows."""
    program = Program([bench.BIN / "tests" / "bqmodel-server", *options], environment("model", folder), folder, "bqmodel")
    program.wait_for_text("listening on ", 30)
    bq = BigQuery(re.search(r"listening on (\S+)", program.out)[1])
    bq.program = program
    return bq


class Batch:
    """One batch with topics of its own. As a context: ends what it has started."""

    def __init__(self, bq, count, partitions=PARTITIONS):
        self.scene = Scene(bench.FOLDER, bq, os.environ["BQF_BROKERS"])
        self.count = count
        self.scene.bq.create_table(self.scene.table("target"), columns("k STRING"))
        done = self.scene.bqfleet("topics create", "--partitions", str(partitions))
        assert done.code == 0, done

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in self.scene.programs:
            program.go_on()
            program.kill()
        for topic in self.scene.kafka.topics():
            if topic.startswith(self.scene.prefix):
                self.scene.kafka.delete_topic(topic)

    def spec(self, **job):
        items = make_items(bench.FOLDER, self.count, f"items-{self.count}.ndjson")
        return self.scene.spec(f"{self.scene.id}.yaml", batch=f"b-{self.scene.id}", items={"file": str(items), "key": "player_id"},
                               job={"handler": "work"} | job, write={"table": self.scene.table("target"), "mode": "append"})

    def publish(self, *args):
        """Seconds, seconds of processor time, highest resident MB of the submitter."""
        seconds, cpu, memory, _ = bench.measured([bench.BIN / "bqfleet", "submit", *self.scene.flags, self.spec(), *args], env=self.scene.env,
                                                 stderr=open(bench.FOLDER / "submit.err", "ab"))
        return seconds, cpu, memory

    def bare(self, work_us=0):
        """(items a second, seconds of processor time) of the bare loop over the work topic. It has the worker's settings, but with room in its queue for
        whatever comes: it must not be what librdkafka's pauses are made of."""
        *_, out = bench.measured([bench.BIN / "tests" / "bare_poll", self.scene.brokers, self.scene.work_topic, str(self.count),
                                  str(int(work_us * 1000)), "queued.min.messages=100000", "queued.max.messages.kbytes=65536"])
        seconds, cpu, _ = map(float, out.split())
        return self.count / seconds, cpu

    def alone(self, work_us):
        """Items a second of the work without any messages."""
        *_, out = bench.measured([bench.BIN / "tests" / "bare_poll", "-", "-", str(self.count), str(int(work_us * 1000))])
        return self.count / float(out.split()[0])

    def worker(self, noop="", *args, name=None):
        return self.scene.worker({"work": f"noop:{noop}"}, *args, name=name)

    def manifests(self):
        """[(milliseconds since 1970, items that it names)] in the log's order."""
        return [(stamp, items_of(m.value)) for stamp, m in self.scene.kafka.read_timed(f"{self.scene.prefix}results") if m.value[1] == fleet.MANIFEST]

    def wait_done(self, seconds, timeout=300):
        """Until all is committed. The broker is not asked before it may be, in `seconds`, and then seldom: asking costs what is measured."""
        time.sleep(seconds)
        wait_for(lambda: not self.scene.unfinished() or time.sleep(2), timeout, "all items done")

    def rate(self, items=None):
        """Items a second from the first manifest to the last one; fails unless each item is in one."""
        found = self.manifests()
        assert sum(n for _, n in found) >= (items or self.count), f"{sum(n for _, n in found)} items are in manifests"
        return (sum(n for _, n in found) - found[0][1]) * 1000 / max(found[-1][0] - found[0][0], 1)


def items_of(manifest):
    """How many items a manifest's bytes name."""
    count = 0
    for number, value in fleet.fields(manifest, 2):
        at = 0
        while number in (9, 10) and at < len(value):
            _, at = fleet.varint(value, at)
            more, at = fleet.varint(value, at)
            count += more
        count += number == 11
    return count
