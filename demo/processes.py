"""Starts the demo's processes, watches over them, and ends them whatever happens."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).parent.parent
#: Lines of a log to show.
TAIL = 15
#: How long a process may take to end by itself, in seconds.
PATIENCE = 30
#: Ctrl-C, and what else ends the demo: all raise KeyboardInterrupt.
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class DemoFailed(Exception):
    """The demo cannot go on; its text tells the user why."""


class Processes:
    """Processes, each in a group of its own, with its output in a log file.

    A context manager: when it is left, all are ended. Only one at a time has the folder.
    """

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def __enter__(self):
        self.lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoFailed(
                f"The demo runs already, or something it started does: whatever has"
                f" {self.lock.name} open."
            ) from None
        for number in ENDING:
            signal.signal(number, signal.default_int_handler)
        return self

    def __exit__(self, *_):
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # people press Ctrl-C twice
        for process in reversed(self.running.values()):  # a worker needs what was there before it
            process.terminate()  # it alone: a worker lets its children finish their tasks
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def start(self, name, *arguments, program=sys.executable, stdin=subprocess.DEVNULL):
        """Start ``program`` with ``arguments``; return the path of its log."""
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                [program, *arguments],
                cwd=PROJECT,
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self.lock.fileno()],  # so that it is held as long as any of them runs
            )
        return self.log(name)

    def log(self, name):
        """Return the path of a process's log."""
        return self.folder / f"{name.replace(' ', '-')}.log"

    def check(self):
        """Raise :class:`DemoFailed`, with the end of its log, if a process has ended."""
        for name, process in self.running.items():
            if process.poll() is not None:
                lines = self.log(name).read_text(errors="replace").splitlines()[-TAIL:]
                raise DemoFailed(
                    f"The {name} ended with status {process.returncode}; {self.log(name)} says:\n"
                    + "\n".join(f"    {line}" for line in lines)
                )

    def wait_for(self, condition, seconds, what):
        """Return what ``condition()`` returns, as soon as that is true.

        :raises DemoFailed: if it is not within ``seconds``, or if a process ends.
        """
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"Waited {seconds} seconds for {what}; the logs in {self.folder} may tell why."
                )
            time.sleep(0.05)
        return result


def free_port(wish=0):
    """Return ``wish`` if that port is free, else another that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wish))
        except OSError:
            return free_port()
        return probe.getsockname()[1]
