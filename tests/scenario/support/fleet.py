"""What the fleet scenarios share: a batch whose rows are known beforehand, and looks into its log."""
import json
import urllib.request

from support.bigquery import columns
from support.processes import wait_for

FIELDS = columns("k STRING REQUIRED", "part INT64 REQUIRED", "v INT64", "note STRING", "version INT64")
ALIVE, SEAL, MANIFEST, CUT, PAUSE, RESUME, PARALLEL, ACCEPT, ADOPTED, CANCEL, ABANDON, FATAL, LOST, OUTCOME = range(1, 15)


def make_items(count, first=0):
    return [{"k": f"item-{i:06d}", "n": i} for i in range(first, first + count)]


def expected(items, rows_each=2, version=1):
    """What the handler of `handler_body` makes of them."""
    return [{"k": item["k"], "part": part, "v": item["n"] * 10 + part, "note": f"{item['k']}/{part}", "version": version}
            for item in items for part in range(rows_each)]


def handler_body(seconds=0.0, rows_each=2, extra=""):
    return f"""
{extra}
time.sleep({seconds})
return [{{"k": key, "part": part, "v": payload["n"] * 10 + part, "note": f"{{key}}/{{part}}", "version": params["version"]}} for part in range({rows_each})]
"""


def batch(scene, items, name="batch", mode="merge", table=None, version=1, **parts):
    """Writes items and spec; returns the spec's path."""
    scene.items(items, f"{name}.ndjson")
    write = {"table": table or scene.table("target"), "mode": mode}
    if mode == "merge":
        write |= {"keys": ["k", "part"], "order_by": "version"}
    parts["write"] = write | parts.get("write", {})
    parts["job"] = {"handler": "work", "params": {"version": version}} | parts.get("job", {})
    return scene.spec(f"{name}.yaml", batch=f"{name}-{scene.id}", items={"file": f"{name}.ndjson", "key": "k"}, **parts)


def create_target(scene, rows=(), name="target"):
    scene.bq.create_table(scene.table(name), FIELDS, rows)


def target_rows(scene, name="target"):
    return scene.bq.rows(scene.table(name), order=["k", "part"])


def assert_target(scene, rows, name="target"):
    """Row by row."""
    found, wanted = target_rows(scene, name), sorted(rows, key=lambda r: (r["k"], r["part"]))
    assert len(found) == len(wanted), f"{len(found)} rows instead of {len(wanted)}"
    for have, want in zip(found, wanted):
        assert have == want


def log_of(scene, run=None):
    """The log's messages of a run (or of all): [(type, key)], in order of their partition."""
    return [(m.value[1], m.key.decode()) for m in scene.kafka.read(f"{scene.prefix}results") if run is None or m.key.decode() == run]


def wait_for_log(scene, kind, count=1, timeout=60, what=None):
    wait_for(lambda: sum(1 for k, _ in log_of(scene) if k == kind) >= count, timeout, what or f"{count} messages of type {kind} in the log")


def summary(done):
    """The JSON summary that `--output json` prints."""
    return json.loads(done.out)


def no_shards_left(scene):
    """Waits until the staging tables are gone."""
    wait_for(lambda: not [t for t in scene.bq.tables(scene.dataset) if t.startswith("bqf_")], 30, "the shards removed")


def control(bq, path, body=None):
    """Speaks to the model's control endpoints."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"http://{bq.address}/control/{path}", data), timeout=30) as reply:
        text = reply.read()
    return json.loads(text) if text else None


def jobs_of(bq, kind):
    """Ids of the model's jobs of a kind ("load", "cut"), in order of their insertion."""
    return [job["id"] for job in control(bq, "counters")["jobs"] if job["id"].startswith(f"bqfleet_{kind}_")]


def assert_honest(bq):
    """The model met no statement it does not know."""
    assert not control(bq, "counters")["unknown_statement"]


# -- offsets against manifests


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, at


def fields(data, at=0):
    """The fields of a message of the log: (number, integer or bytes)."""
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        else:
            value = value >> 1 ^ -(value & 1)
        yield tag >> 3, value


def items_in(manifest):
    """The items that a manifest's bytes name."""
    found, ranges, failure = set(), (9, 10), 11
    for number, value in fields(manifest, 2):
        if number in ranges:
            at = first = 0
            while at < len(value):
                gap, at = varint(value, at)
                count, at = varint(value, at)
                found.update(range(first + gap, first + gap + count))
                first += gap + count
        elif number == failure:
            found.add(next(v for n, v in fields(value) if n == 1))
    return found


def assert_commits_follow_manifests(scene):
    """No committed offset is past an item that no manifest names. For scenes with one run."""
    committed = scene.kafka.committed(scene.group, scene.work_topic)  # asked first: manifests come before commits
    done = set()
    for message in scene.kafka.read(f"{scene.prefix}results"):
        if message.value[1] == MANIFEST:
            done |= items_in(message.value)
    behind = 0
    for message in scene.kafka.read(scene.work_topic):
        offset = committed[message.partition].offset
        if offset is not None and message.offset < offset:
            behind += 1
            item, _ = varint(message.value, 2)
            assert item in done, f"item {item} is committed (partition {message.partition}, below {offset}) and in no manifest"
    return behind
