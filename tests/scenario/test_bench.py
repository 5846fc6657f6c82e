"""The benches' frame: that `tests/bench/run` runs a bench and prints its figures. Figures themselves are measured by hand."""
import json
import os
import pathlib
import subprocess

from support.scene import BIN, ROOT

RUN = ROOT / "tests/bench/run"


def bench(*args):
    return subprocess.run([RUN, "--yes", *args], env=os.environ | {"BQF_BIN": str(BIN)}, capture_output=True, text=True, timeout=300, check=False)


def test_a_bench_prints_its_figures_beside_the_machine():
    done = bench("--quick", "--output", "json", "start")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["machine"]["cores"] >= 1 and said["machine"]["librdkafka"]
    assert [row["bench"] for row in said["figures"]] == ["start"]
    assert said["figures"][0]["figure"] > 0 and said["figures"][0]["reached"] is None


def test_every_bench_says_what_it_measures():
    listed = bench("--list").stdout.splitlines()
    assert len(listed) == len(list(pathlib.Path(RUN).parent.glob("bench_*.py")))
    assert all(len(line.split(maxsplit=1)) == 2 for line in listed)


def test_a_bench_that_does_not_exist_is_refused():
    done = bench("no-such-bench")
    assert done.returncode == 2 and "no bench is called no-such-bench" in done.stderr
