"""Items through one exec handler, rows checked, appended and loaded: in C, and in Python beside the same handler between two cats."""
import json
import pathlib
import subprocess
import sys
import time

import bench

PROGRAMS = bench.BIN / "tests"
EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "deploy/local"
COUNTS = ("ab", "h", "doubles", "triples", "hr", "r", "rbi", "sb", "cs", "bb", "so", "hbp", "sh", "sf")
PROJECTION = ",".join(["player_id:STRING REQUIRED", "season:INT64 REQUIRED", "system:STRING REQUIRED", "name:STRING", "age:INT64", "data_through:INT64",
                       "created_at:TIMESTAMP", *(f"{name}:FLOAT64" for name in ("pa", "reliability", "avg", "obp", "slg", *COUNTS))])
PARAMS = json.dumps({"season": 2025, "created_at": "2025-03-01T00:00:00Z"})
ECHO = f"""import sys
sys.path.insert(0, {str(EXAMPLE)!r})
import bqfleet
bqfleet.serve(lambda item, hello: [item["payload"]])
"""


def through_worker(handler, items, *more):
    """One run of exec_bench: a worker on a bus in memory, with a BigQuery that takes every load at once."""
    done = subprocess.run([PROGRAMS / "exec_bench", "--items", str(items), *more, "--", *map(str, handler)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def bare(handler, items, *more):
    """Seconds of `cat LINES | HANDLER | cat >/dev/null`, with the lines that a worker writes."""
    lines = bench.FOLDER / "lines"
    if not lines.exists():
        subprocess.run([PROGRAMS / "exec_bench", "--items", str(items), "--lines", lines, *more], check=True)
    start = time.monotonic()
    feed = subprocess.Popen(["cat", lines], stdout=subprocess.PIPE)
    work = subprocess.Popen(list(map(str, handler)), stdin=feed.stdout, stdout=subprocess.PIPE)
    sink = subprocess.Popen(["cat"], stdin=work.stdout, stdout=subprocess.DEVNULL)
    feed.stdout.close()
    work.stdout.close()
    if [p.wait() for p in (sink, work, feed)] != [0, 0, 0]:
        raise SystemExit(f"{handler} failed between two cats")
    return time.monotonic() - start


def best_of(rounds, handler, items, *more):
    """The fastest run through a worker, and the fastest between two cats, taken in turns."""
    (bench.FOLDER / "lines").unlink(missing_ok=True)
    runs = [(through_worker(handler, items, *more), bare(handler, items, *more)) for _ in range(rounds)]
    return min((ours for ours, _ in runs), key=lambda r: r["seconds"]), min(cats for _, cats in runs)


def player(n):
    """What the example's prepare.py makes of a player, as far as its size goes."""
    def season(year):
        line = {"year": year, "pa": 200 + n * 7 % 400, **{name: 1 + n * (i + 3) % 60 for i, name in enumerate(COUNTS)}}
        return line | {"league": {name: round(0.01 + (n + i) % 30 / 100, 6) for i, name in enumerate(COUNTS)}}

    return {"player_id": f"player{n}", "name": f"Player Number {n}", "birth_year": 1990 + n % 15, "through": 2024,
            "seasons": [season(year) for year in (2024, 2023, 2022)]}


def main():
    items = bench.size(500000, 20000)
    c, cats = best_of(bench.size(5, 1), [PROGRAMS / "handler_echo"], items)
    bench.report("items of one row, ten columns, echo in C, window 64", c["per_s"], "/s", 400000,
                 beside=f"{c['cpu_us']:.2f} us of the worker, {c['handler_cpu_us']:.2f} us of the handler each; {items / cats:,.0f}/s between two cats")

    echo = bench.FOLDER / "echo.py"
    echo.write_text(ECHO)
    items = bench.size(100000, 2000)
    ours, cats = best_of(bench.size(5, 1), [sys.executable, echo], items)
    bench.report("the same echo in Python by bqfleet.py, its time", ours["seconds"] / cats, "x", 1.1, most=True,
                 beside=f"{ours['seconds']:.2f} s, {cats:.2f} s between two cats; {ours['cpu_us']:.2f} us of the worker each")

    players = bench.FOLDER / "players.ndjson"
    players.write_text("".join(json.dumps(player(n)) + "\n" for n in range(1000)))
    items = bench.size(20000, 500)
    more = ("--payloads", players, "--schema", PROJECTION, "--params", PARAMS, "--window", "16")
    ours, cats = best_of(bench.size(5, 1), [sys.executable, EXAMPLE / "project.py"], items, *more)
    bench.report("the example's project.py, three rows an item, window 16, its time", ours["seconds"] / cats, "x", 1.1, most=True,
                 beside=f"{ours['seconds']:.2f} s, {cats:.2f} s between two cats; {ours['cpu_us']:.2f} us of the worker each")


main()
