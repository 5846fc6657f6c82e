"""table.py [--list] [--output text|json] [--folder FOLDER] [NAME...]: runs benches, prints their figures as one table. See `run`."""
import argparse
import ast
import ctypes
import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONGEST_S = 1200


def benches():
    return {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def machine():
    def first(path, key):
        return next((line.split(":", 1)[1].strip() for line in open(path, encoding="utf-8") if line.startswith(key)), "unknown")

    version = ctypes.CDLL("librdkafka.so.1").rd_kafka_version_str
    version.restype = ctypes.c_char_p
    return {"cores": os.cpu_count(), "cpu": first("/proc/cpuinfo", "model name"),
            "memory_mb": int(first("/proc/meminfo", "MemTotal").split()[0]) // 1024, "kernel": platform.release(),
            "librdkafka": version().decode(), "load": round(os.getloadavg()[0], 2)}


class Broker:
    """A fresh one while a bench runs: what one bench has published must not slow another one down."""

    def __init__(self, folder):
        self.folder = folder

    def service(self, *args):
        return subprocess.run([ROOT / "deploy/local/service", *args], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def __enter__(self):
        return self.service("start", "broker", self.folder)

    def __exit__(self, *_):
        self.service("stop", self.folder)


def run(name, path, folder):
    """The bench's figures; None when it failed."""
    work = folder / name
    work.mkdir()
    env = os.environ | {"BQF_BENCH_DIR": str(work), "PYTHONPATH": f"{HERE}:{ROOT / 'tests/scenario'}", "PYTHONDONTWRITEBYTECODE": "1"}

    def start():
        with open(folder / f"{name}.log", "wb") as log:
            return subprocess.run([sys.executable, path], cwd=work, env=env, stdout=subprocess.PIPE, stderr=log, text=True,
                                  timeout=LONGEST_S, check=True)

    try:
        if "needs: broker" in docstring(path):
            with Broker(folder / f"{name}.broker") as env["BQF_BROKERS"]:
                done = start()
        else:
            done = start()
        return [{"bench": name, **json.loads(line)} for line in done.stdout.splitlines()]
    except (subprocess.SubprocessError, ValueError) as error:
        print(f"{name} failed: {error}", file=sys.stderr)
        log = folder / f"{name}.log"
        if log.exists():
            print("".join(f"  | {line}\n" for line in log.read_text(errors="replace").splitlines()[-15:]), end="", file=sys.stderr)
        return None


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def judged(row):
    """Whether the target is reached; None where there is none, or where sizes were too small to say."""
    if row["target"] is None or os.environ.get("BQF_QUICK"):
        return None
    return row["figure"] <= row["target"] if row["most"] else row["figure"] >= row["target"]


def show(rows, about):
    cells = [("bench", "figure", "", "target", "reached", "from")]
    for row in rows:
        unit = f" {row['unit']}" if row["unit"] else ""
        target = "" if row["target"] is None else f"{'<=' if row['most'] else '>='} {number(row['target'])}{unit}"
        cells.append((row["bench"], row["what"], number(row["figure"]) + unit, target, {None: "", True: "yes", False: "no"}[row["reached"]],
                      row["beside"]))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    print(f"{about['cores']} cores, {about['cpu']}, {about['memory_mb']:,} MB, Linux {about['kernel']}, librdkafka {about['librdkafka']}, "
          f"load {about['load']} before\n")
    for line in cells:
        print("  ".join([*(text.ljust(width) for text, width in zip(line, widths)), line[5]]).rstrip())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--output", default="text")
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    known = benches()
    if asked.list:
        for name, path in known.items():
            print(f"{name:16} {docstring(path).splitlines()[0]}")
        return 0
    about, rows, failed = machine(), [], 0
    for name in asked.names or known:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = run(name, known[name], asked.folder)
        failed += found is None
        rows += found or []
    for row in rows:
        row["reached"] = judged(row)
    if asked.output == "json":
        print(json.dumps({"machine": about, "figures": rows}, indent=1))
    else:
        show(rows, about)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
