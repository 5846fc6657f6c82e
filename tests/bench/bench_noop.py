"""What an item costs a worker: no-op items through Kafka, beside a bare loop of rd_kafka_consumer_poll().

needs: broker
"""
import statistics

import bench
import fleet_bench

COUNT = bench.size(1_000_000, 20_000)
ROUNDS = bench.size(3, 1)

bq = fleet_bench.model(bench.FOLDER)
ratios, rates, bares, cpus, bare_cpus, peaks, submits = [], [], [], [], [], [], []
for _ in range(ROUNDS):
    with fleet_bench.Batch(bq, COUNT) as batch:
        submits.append(batch.publish())
        before, bare_cpu = batch.bare()
        worker = batch.worker()
        batch.wait_done(COUNT / 700_000)
        rate = batch.rate()
        cpus.append(bench.cpu_of(worker.pid))
        peaks.append(bench.memory_of(worker.pid)[1])
        after, _ = batch.bare()
        bares.append((before + after) / 2)
        bare_cpus.append(bare_cpu)
        rates.append(rate)
        ratios.append(rate / bares[-1])
bq.program.kill()

middle = statistics.median
bench.report("no-op items through Kafka, beside the bare loop", middle(ratios), "x", 0.75,
             beside=f"{middle(rates) / 1e6:.2f} of {middle(bares) / 1e6:.2f} M items/s, {COUNT:,} items")
bench.report("processor time of the worker for them", middle(cpus), "s", 1.0, most=True, beside=f"the bare loop: {middle(bare_cpus):.2f} s")
bench.report("highest resident memory of the worker", middle(peaks), "MB", 40, most=True, beside="8 MB of them prefetch")
bench.report("publishing them", middle(s[0] for s in submits), "s", beside=f"{middle(s[1] for s in submits):.2f} s of processor time, "
             f"{middle(s[2] for s in submits):.0f} MB")
