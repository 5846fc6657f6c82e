"""How long a program takes to start: `bqfleet version`."""
import bench

ROUNDS = bench.size(50, 3)
times = sorted(bench.measured([bench.BIN / "bqfleet", "version"])[0] for _ in range(ROUNDS))
bench.report("bqfleet version, the median", times[ROUNDS // 2] * 1000, "ms", 10, most=True, beside=f"{ROUNDS} starts")
