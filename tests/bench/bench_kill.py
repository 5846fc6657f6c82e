"""What kill -9 of a worker costs: items processed again, and the time until the next one runs when it is back under its name.

needs: broker
"""
import time

import bench
import fleet_bench

PARALLEL, MS = 100, 50
PER_S = PARALLEL * 1000 // MS
STRAGGLER_S = 12


def one_kill(name, slow_below, life_s):
    """A worker that is killed after a while, and another one of its name that ends the batch: items started twice, seconds until the second one's first."""
    book, handlers = bench.FOLDER / f"book-{name}", bench.FOLDER / f"handlers-{name}.yaml"
    handlers.write_text(f'{{"work": {{"exec": "{bench.BIN}/tests/handler_sleep {book} {MS} {slow_below} {STRAGGLER_S * 1000}", "window": {PARALLEL}}}}}')
    with fleet_bench.Batch(bq, int(life_s + 3) * PER_S) as batch:
        batch.publish()

        def worker(life):
            return batch.scene.start("bqfleet-worker", *batch.scene.flags, "--name", "one", "--static-member", "--handlers-file", handlers,
                                     "--parallel", str(PARALLEL), name=f"worker-{name}-{life}")

        def starts():
            return [tuple(map(int, line.split())) for line in book.read_text().splitlines()]

        first = worker(1)
        time.sleep(life_s)
        first.kill()
        killed = time.monotonic_ns()
        worker(2)
        batch.wait_done(3 + (STRAGGLER_S if slow_below else 0))
        found = starts()
        assert len({item for item, _ in found}) == batch.count
        return len(found) - batch.count, (min(when for _, when in found if when > killed) - killed) / 1e9


bq = fleet_bench.model(bench.FOLDER)
lives = [4 + 0.07 * n for n in range(bench.size(5, 1))]  # not whole numbers of commits
plain = [one_kill(f"plain-{n}", 0, life) for n, life in enumerate(lives)]
slow = [one_kill(f"slow-{n}", fleet_bench.PARTITIONS, life) for n, life in enumerate(lives[:3])]
bq.program.kill()
each = f"{PER_S:,} items/s, {PARALLEL} at once"
again = [n for n, _ in plain], [n for n, _ in slow]
waits = sorted(seconds for _, seconds in plain + slow)
bench.report("items processed again after kill -9, the most", max(again[0]), "items", 700, most=True, beside=f"{each}; kills: {again[0]}")
bench.report(f"the same with a straggler of {STRAGGLER_S} s on each partition", max(again[1]), "items", 700, most=True, beside=f"kills: {again[1]}")
bench.report("first item of a worker that is back under its name", waits[len(waits) // 2], "s", 0.5, most=True, beside=f"the slowest: {waits[-1]:.2f} s")
