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
        before = batch.alone(us)
        worker = batch.worker(f"{us}us")
        batch.wait_done(batch.count * us / 1e6 * 1.3 + 1)
        rate, alone = batch.rate(), (before + batch.alone(us)) / 2
        bench.report(f"handlers of {us} us, beside the handler alone", rate / alone, "x", 0.5,
                     beside=f"{rate / 1000:,.0f} of {alone / 1000:,.0f} k items/s; a loop of rd_kafka_consumer_poll() with them: {bare / 1000:,.0f} k")
bq.program.kill()
