"""What an item costs in one process: no-op items through the bus in memory."""
import json

import bench

COUNT = bench.size(3_000_000, 30_000)
ROUNDS = bench.size(5, 1)

spec = bench.FOLDER / "spec.yaml"
spec.write_text(json.dumps({"batch": "embedded", "items": {"range": {"from": 1, "to": COUNT}}, "job": {"handler": "work"},
                            "handlers": {"work": {"noop": "0"}}, "write": {"mode": "none"}}))
rounds = [bench.measured([bench.BIN / "bqfleet", "run", spec, "--progress", "none"]) for _ in range(ROUNDS)]
used = sorted(r[1] for r in rounds)[ROUNDS // 2]
bench.report("items in a second of one core, in one process", COUNT / used / 1e6, "M/s", 3,
             beside=f"{COUNT:,} items: {used:.2f} s of processor time, {min(r[0] for r in rounds):.2f} s")
bench.report("highest resident memory", max(r[2] for r in rounds), "MB", 64, most=True)
