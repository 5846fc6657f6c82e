"""What benches share: figures out, sizes in, processor time and memory of processes."""
import json
import os
import pathlib
import subprocess
import time

QUICK = bool(os.environ.get("BQF_QUICK"))
BIN = pathlib.Path(os.environ.get("BQF_BIN", "."))
FOLDER = pathlib.Path(os.environ.get("BQF_BENCH_DIR", "."))
TICKS = os.sysconf("SC_CLK_TCK")


def size(full, quick):
    """How many items: the second with --quick."""
    return quick if QUICK else full


def report(what, figure, unit="", target=None, most=False, beside=""):
    """One row of the table: at least `target`, or at most when `most`."""
    print(json.dumps({"what": what, "figure": figure, "unit": unit, "target": target, "most": most, "beside": beside}), flush=True)


def cpu_of(pid):
    """Seconds of processor time of a living process, without its children."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid):
    """(resident now, the highest it was) of a living process, in MB of 1,048,576 bytes."""
    found = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return tuple(int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def measured(argv, **more):
    """Runs a program to its end; its seconds, its processor seconds, its highest resident MB and its stdout. It must succeed."""
    out = FOLDER / "measured.out"
    with open(out, "wb") as file:
        start = time.monotonic()
        child = subprocess.Popen([str(a) for a in argv], stdout=file, start_new_session=True, **more)  # as the programs it is compared with
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{argv} ended with {child.returncode}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read_text()
