"""The case it was made for: 158 items of 25 rows, 100 at once, 250 ms of work each, loads and DML of a second each; every way of writing, and the naive one.

needs: broker
"""
import os
import pathlib
import statistics
import tempfile
import time

import bench
import fleet_bench
from support import the_case
from support.scene import Scene

TARGETS = {"staging merge": 1.2, "direct merge, disjoint": 1.5, "direct append": 1.5}


def scene():
    """A fresh model of BigQuery, and what plays on it."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=bench.FOLDER))
    bq = fleet_bench.model(folder, *the_case.MODEL)
    made = Scene(folder, bq, os.environ["BQF_BROKERS"])
    made.programs.append(bq.program)
    return made


def one(strategy):
    """A run with everything up before it."""
    play = scene()
    the_case.prepare(play, strategy)
    the_case.run(play, strategy, 1000, "warm")  # the workers have found each other, the target its permits
    time.sleep(8)  # the permit is back, and nobody waits for it any more
    told = the_case.run(play, strategy)
    for program in play.programs:
        program.kill()
    return told


def beside(told, ideal_s):
    return (f"{told['seconds']:.2f} of {ideal_s:.2f} s; {told['lost']} rows lost, {told['rejected']} statements rejected, {told['dml']} DML on the target and "
            f"{told['updates']} on permits, {told['loads'] + told['queries']} jobs, {told['requests']} requests, {told['bytes_billed'] >> 20} MiB billed")


for strategy, (_, behind_s) in the_case.STRATEGIES.items():
    runs = sorted((one(strategy) for _ in range(bench.size(3, 1))), key=lambda told: told["seconds"])
    told, ideal_s = runs[len(runs) // 2], the_case.PATH_S + behind_s
    assert sum(r["lost"] + r["rejected"] for r in runs) == 0, runs
    bench.report(f"{strategy}, beside the ideal", told["seconds"] / ideal_s, "x", TARGETS.get(strategy), most=True, beside=beside(told, ideal_s))
    if strategy == "staging merge":
        bench.report("requests to BigQuery in it", statistics.median(r["requests"] for r in runs), "", 60, most=True)
        bench.report("load jobs in it", statistics.median(r["loads"] for r in runs), "", 6, most=True)
play = scene()
told = the_case.naive(play)
play.programs[0].kill()
ideal_s = the_case.PATH_S + the_case.ITEMS / 2 * the_case.STEP_S
bench.report("the naive way: rows lost", 100 * told["lost"] / (the_case.ITEMS * the_case.ROWS), "%", beside=beside(told, ideal_s))
