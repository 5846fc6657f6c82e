"""Jobs of 50 ms, 100 and 1,000 at once: how near to what so many can do.

needs: broker
"""
import bench
import fleet_bench

bq = fleet_bench.model(bench.FOLDER)
for parallel, seconds, target in ((100, 20, 0.99), (1000, 10, 0.97)):
    most = parallel * 20  # a second
    with fleet_bench.Batch(bq, most * bench.size(seconds, 1)) as batch:
        batch.publish()
        worker = batch.worker("50ms", "--parallel", str(parallel))
        batch.wait_done(batch.count / most + 2)
        rate, cpu = batch.rate(), bench.cpu_of(worker.pid)
        bench.report(f"jobs of 50 ms, {parallel:,} at once", rate / most, "x", target,
                     beside=f"{rate:,.0f} of {most:,}/s; {cpu * 1e6 / batch.count:.0f} us of processor time each, start and all")
bq.program.kill()
