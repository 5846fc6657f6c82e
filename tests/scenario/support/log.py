"""Messages that a test writes into a run's log itself: what workers and commands would say, at a moment of the test's own choice."""
import json

from support.fleet import CANCEL, MANIFEST
from support.kafka import Message

TEXT, INCARNATION, LOAD, ROWS, RANGES = 2, 6, 7, 8, 9


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def integer(field, value):
    return varint(field << 3) + varint(value << 1 if value >= 0 else (-value << 1) - 1)


def block(field, content):
    content = content if isinstance(content, bytes) else content.encode()
    return varint(field << 3 | 2) + varint(len(content)) + content


def cancel(why):
    return bytes([1, CANCEL]) + block(TEXT, why)


def manifest(incarnation, sequence, first, count):
    """A load of items first to first + count - 1, one row each."""
    load = f"{incarnation}-{sequence:06d}"
    return bytes([1, MANIFEST]) + block(INCARNATION, incarnation) + block(LOAD, load) + integer(ROWS, count) + block(RANGES, varint(first) + varint(count))


def record_of(scene, batch):
    """The record of the batch's last run, as it stands in `batches`."""
    found = [json.loads(m.value) for m in scene.kafka.read(f"{scene.prefix}batches") if m.key.startswith(b"run/") and m.value]
    return [r for r in found if r["batch"] == batch][-1]


def say(scene, record, *messages):
    partition, key = record["places"]["log_partition"], record["run"].encode()
    scene.kafka.publish(f"{scene.prefix}results", [Message(partition, 0, key, m, None) for m in messages])
