"""The BigQuery client alone, against the emulator."""
import subprocess

from support.scene import BIN


def test_every_kind_of_request_and_statement_has_its_effect(emulator):
    program = next(path for path in (BIN / "tests" / "bq_smoke", BIN / "bq_smoke") if path.exists())
    done = subprocess.run([program, f"http://{emulator.address}", emulator.project], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "ok all"
