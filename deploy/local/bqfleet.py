"""Makes a bqfleet handler of a Python function: bqfleet.serve(rows_of), where rows_of(item, hello) returns the item's rows, or
yields them: many are sent on while they come.

item has key, payload and attempt; hello has run, batch, params and the target's schema. start(hello), if given, runs once
before the first item and is where models are loaded. What is raised makes the item fail: any exception as the item's own
error, Retry to be tried again later, Fatal to end the run. print() goes to the worker's log, not to the fleet.
"""
import json, os, sys, time, traceback


class Retry(Exception):
    kind = "retry"


class Fatal(Exception):
    kind = "fatal"


def serve(rows_of, start=None):
    out = os.dup(1)
    os.dup2(2, 1)  # also for libraries that write to stdout below Python
    sys.stdout = sys.stderr

    def write(answers):
        data = memoryview("".join(json.dumps(a, default=str) + "\n" for a in answers).encode())
        size = len(data)
        while data:
            data = data[os.write(out, data):]
        return size

    def answer(item, hello):
        try:
            rows, most = [], 32
            for row in rows_of(item, hello):
                rows.append(row)
                if len(rows) == most:  # pieces of 32 to 64 kB
                    size = write([{"item": item["item"], "rows": rows}])
                    most = max(1, most * 32768 // size) if size > 65536 else most * 2 if size < 32768 else most
                    rows = []
            return {"item": item["item"], "rows": rows, "done": True}
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"
            return {"item": item["item"], "error": {"kind": getattr(error, "kind", "task"), "message": text}}

    hello, pieces = None, []
    while chunk := os.read(0, 1 << 20):  # all that is there: one read, and one write of the answers
        pieces.append(chunk)
        if b"\n" not in chunk:
            continue
        *lines, rest = b"".join(pieces).split(b"\n")
        lines = [line for line in lines if line]
        pieces, answers, since = [rest], [], time.monotonic()
        for left, line in zip(range(len(lines) - 1, -1, -1), lines):
            message = json.loads(line)
            if hello is None:
                hello = message
                try:
                    if start:
                        start(hello)
                except Fatal as error:
                    write([{"error": {"kind": "fatal", "message": f"Fatal: {error}"}}])
                    raise
                write([{"ready": True}])
            else:
                answers.append(answer(message, hello))
            # Half of them, so that new items come during the other half; slow work: nobody's answer waits for the next item's
            if left == len(lines) // 2 or not left or time.monotonic() - since > 0.05:
                write(answers)
                answers, since = [], time.monotonic()
