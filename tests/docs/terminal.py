"""Does what a page says, as a reader does it: in an empty folder, with terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.acceptance.running import Process, wait_for
from tests.docs.pages import Block
from tests.storms.servers import free_port

#: A first start of a worker, beside other tests.
PATIENCE = 120
#: Commands that set the shell itself, so that they count for all that follow, in each terminal.
OF_THE_SHELL = re.compile(r"cd |\. |export |\w+=\S+$")
#: Commands that run until Ctrl-C.
SERVERS = {
    "manage.py runserver": "web server",
    "manage.py celery worker": "worker",
    "/usr/sbin/bearerbox": "bearerbox",
    "/usr/sbin/smsbox": "smsbox",
    "/usr/lib/kannel/test/fakesmsc": "telephone",
}
#: What they print when they are ready; a telephone has shown its lines then.
READY = {
    "web server": "Quit the server",
    "worker": " ready.",
    "bearerbox": "entering mainloop",
    "smsbox": "Connected to bearerbox",
    "telephone": "",
}
#: Files to whose end a page adds.
ADDED_TO = {"settings.py", "urls.py"}
#: What a test has to do otherwise than a reader: the ports may be in use, and nobody types. They
#: are those of the web server and of Kannel.
PORTS = "8000", "10000", "13000", "13001", "13013"
LOGIN = {
    "DJANGO_SUPERUSER_USERNAME": "admin",
    "DJANGO_SUPERUSER_EMAIL": "admin@example.org",
    "DJANGO_SUPERUSER_PASSWORD": "long-password",
}


class Terminal:
    """A reader with some terminals.

    :param folder: an empty folder.
    :param home: what ``~`` is.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in PORTS}
        self.processes: dict[str, Process] = {}
        self._shell: list[str] = []
        self._seen: dict[str, int] = {}
        programs = home / "programs"
        programs.mkdir()
        (programs / "python3").symlink_to(Path(sys.base_prefix, "bin", "python3").resolve())
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.environment = {
            **kept,
            **LOGIN,
            "HOME": str(home),
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
            "no_proxy": "127.0.0.1",
        }

    def do(self, block: Block) -> None:
        """Do what a block says, and see what it says that is seen."""
        if block.not_run:
            return
        if block.caption:
            self.write(block)
        elif block.language == "sh":
            self.run(block.text, [], block.where)
        elif block.language == "console":
            for command, lines in block.expected():
                self.run(command, lines, block.where)
        elif block.language == "text":
            self.see(block)
        else:
            raise AssertionError(f"{block.where}: nobody knows what to do with it")

    def write(self, block: Block) -> None:
        """Write a file; settings and URLs are added to those that are there."""
        path = self.project / block.caption
        assert path.parent.is_dir(), f"{block.where}: there is no folder {path.parent.name}"
        text = self._ours(block.text)
        if path.name in ADDED_TO:
            text = f"{path.read_text()}\n{text}"
        path.write_text(text)

    def run(self, script: str, lines: list[str], where: str) -> None:
        """Run commands in the shell, or start a server; see these lines in what they print."""
        script, lines = self._ours(script.strip()), list(map(self._ours, lines))
        for command, server in SERVERS.items():
            if command in script:
                self._serve(server, script, lines, where)
                return
        self._seen = {name: len(self.log(name)) for name in self.processes}
        done = subprocess.run(
            ["bash", "-ec", "\n".join([*self._shell, script])],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        said = f"{where}: {script}\n{done.stdout}"
        assert done.returncode == 0, said
        assert _ordered(lines, done.stdout), f"{said}\ndoes not show\n{lines}"
        self._shell += filter(OF_THE_SHELL.match, script.splitlines())

    def see(self, block: Block) -> None:
        """Wait until each line has appeared in a terminal since the last command."""
        lines = self._ours(block.text).splitlines()

        def appeared() -> bool:
            new = [self.log(name)[self._seen.get(name, 0) :] for name in self.processes]
            return all(any(_ordered([line], text) for text in new) for line in lines)

        wait_for(f"{lines} of {block.where}", appeared, PATIENCE)

    def interrupt(self, name: str) -> None:
        """Press Ctrl-C in the terminal of a server, and wait until it has ended."""
        process = self.processes.pop(name)
        process.send_signal_to_all(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()

    def close(self) -> None:
        """End what still runs."""
        for name in reversed(self.processes.copy()):
            self.interrupt(name)

    def log(self, name: str) -> str:
        """Return what a server has printed."""
        return self.processes[name].output()

    @property
    def project(self) -> Path:
        """The folder that the shell is in."""
        folder = self.folder
        for command in self._shell:
            if command.startswith("cd "):
                folder /= command.removeprefix("cd ")
        return folder

    def _serve(self, name: str, command: str, lines: list[str], where: str) -> None:
        log = self.folder.parent / f"{name} of {where.replace('/', '-')}.log"
        script = "\n".join([*self._shell, f"exec {command}"])
        process = Process(["bash", "-ec", script], self.environment, log, cwd=self.folder)
        self.processes[name] = process
        wait_for(
            f"{lines} of {where}",
            lambda: (
                process.runs()
                and READY[name] in process.output()
                and _ordered(lines, process.output())
            ),
            PATIENCE,
        )

    def _ours(self, text: str) -> str:
        text = re.sub(r"manage.py runserver$", r"\g<0> 8000", text)
        text = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda port: self.ports[port[0]], text)
        return re.sub(r"manage.py createsuperuser$", r"\g<0> --noinput", text, flags=re.MULTILINE)


def _ordered(lines: list[str], text: str) -> bool:
    """Return whether lines appear in a text in their order; ``...`` stands for anything."""
    place = 0
    for line in lines:
        pattern = re.escape(line.strip()).replace(re.escape("..."), ".*")
        if not (match := re.compile(pattern).search(text, place)):
            return False
        place = match.end()
    return True
