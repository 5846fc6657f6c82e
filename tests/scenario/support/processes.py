"""Processes of a test: started with a mark in their environment that their children inherit, so that none can hide."""
import os
import pathlib
import signal
import subprocess
import time

MARK = "BQF_SCENARIO"


def wait_for(condition, timeout=30.0, what="the condition"):
    """Asks until the answer is true, and returns it. Fails, naming what was waited for, when the time is over."""
    until = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"{timeout:g} s passed without {what}")
        time.sleep(0.05)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def marked(mark):
    """The living processes of a test: {pid: command line}."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0") and alive(int(folder.name)):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            pass
    return found


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Done:
    """How a program ended: code (negative for a signal), out and err as text."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"code {self.code}\n--- stdout, its end\n{self.out[-3000:]}\n--- stderr, its end\n{self.err[-6000:]}"


class Program:
    """A program in the background, in a session of its own; stdout and stderr go to files NAME.out and NAME.err in the folder."""

    def __init__(self, argv, env, folder, name, cwd=None, stdin=None):
        self.name, self.argv = name, [str(a) for a in argv]
        self.out_path, self.err_path = folder / f"{name}.out", folder / f"{name}.err"
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.popen = subprocess.Popen(self.argv, env=env, cwd=cwd or folder, stdout=out, stderr=err, start_new_session=True,
                                          stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL)
        if stdin is not None:
            try:
                self.popen.stdin.write(stdin if isinstance(stdin, bytes) else stdin.encode())
                self.popen.stdin.close()
            except BrokenPipeError:
                pass

    pid = property(lambda self: self.popen.pid)
    running = property(lambda self: self.popen.poll() is None)
    out = property(lambda self: self.out_path.read_text(errors="replace"))
    err = property(lambda self: self.err_path.read_text(errors="replace"))

    def wait(self, timeout=60.0):
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ran longer than {timeout:g} s: {self.argv}\n{Done(None, self.out, self.err)}") from None
        return Done(code, self.out, self.err)

    def wait_for_text(self, text, timeout=30.0):
        """Until text is on stdout or stderr. A program that ended without it fails at once."""
        def seen():
            ended = not self.running  # asked first: what it said last must still count
            if text in self.out or text in self.err:
                return True
            assert not ended, f"{self.name} ended without saying {text!r}\n{Done(self.popen.returncode, self.out, self.err)}"
            return False
        wait_for(seen, timeout, f"{text!r} from {self.name}")

    def signal(self, number):
        if self.running:
            self.popen.send_signal(number)

    def terminate(self):
        self.signal(signal.SIGTERM)

    def interrupt(self):
        self.signal(signal.SIGINT)

    def stop(self):
        """Frozen until go_on(): returns once the kernel says so."""
        self.signal(signal.SIGSTOP)
        wait_for(lambda: pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", 10, f"{self.name} stopped")

    def go_on(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """kill -9 of this process alone; its children have to notice by themselves."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)
