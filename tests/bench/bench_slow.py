"""Handlers of 1 to 10 microseconds, a little slower than Kafka: beside what the handler alone allows.

needs: broker
"""
import bench
import fleet_bench

bq = fleet_bench.model(bench.FOLDER)
for us, count in ((1, 500_000), (2, 500_000), (5, 300_000), (10, 200_000)):
    with fleet_bench.Batch(bq, bench.size(count, 10_000)) as batch:
        batch.publish()
        bare, _ = batch.bare(us)
        worker = batch.worker(f"{us}us")
        batch.wait_done(batch.count * us / 1e6 * 1.3 + 1)
        rate = batch.rate()
        bench.report(f"handlers of {us} us, beside what they allow", rate * us / 1e6, "x", 0.5,
                     beside=f"{rate / 1000:,.0f} of {1000 / us:,.0f} k items/s; a loop of rd_kafka_consumer_poll() with them: {bare / 1000:,.0f} k")
bq.program.kill()
