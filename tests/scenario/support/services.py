"""The emulator and the broker, started as deploy/local does it."""
import os
import pathlib
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Service:
    """kind: emulator or broker. A folder with data keeps its data and its address over a stop and a start."""

    def __init__(self, kind, folder):
        self.kind, self.folder, self.address = kind, folder, None

    def _call(self, *args):
        done = subprocess.run([ROOT / "deploy/local/service", *args], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self):
        self.address = self._call("start", self.kind, self.folder)
        return self

    def stop(self):
        self._call("stop", self.folder)

    def kill(self):
        os.killpg(int((self.folder / "pid").read_text()), signal.SIGKILL)
        self.stop()
