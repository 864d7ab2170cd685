"""Reads the code blocks of a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: A comment before a block that no test can run; it says why.
NOT_RUN = ".. not run: "
#: What stands before a block: its directive, or a line that ends with two colons.
CODE = re.compile(r"( *)(?:\.\. code-block:: (\S+)|(?! *\.\. ).*::)")
UNDERLINES = tuple(char * 3 for char in "=-~")


@dataclass(frozen=True)
class Block:
    """A code block.

    :param where: page and line, for people.
    :param section: the heading that it stands under.
    :param language: as ``code-block`` names it; of a block after ``::`` as its text looks.
    :param caption: the file that the block is, or what of it is added.
    :param text: the block without its indentation.
    :param not_run: why no test runs it; empty if one does.
    """

    where: str
    section: str
    language: str
    caption: str
    text: str
    not_run: str

    def expected(self) -> list[tuple[str, list[str]]]:
        """Return the commands of a console, each with the lines that are shown below it."""
        commands: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith(("$ ", "# ")):
                commands.append((line[2:], []))
            elif commands:
                commands[-1][1].append(line)
            else:
                raise AssertionError(f"{self.where}: a console begins with a command")
        return commands


def pages() -> list[Path]:
    """Return all pages of the documentation."""
    docs = ROOT / "docs"
    found = [path for path in docs.rglob("*.rst") if "_build" not in path.parts]
    return [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", *sorted(found)]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page in their order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    section = not_run = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.startswith(UNDERLINES):
            section = lines[number - 1]
        if line.strip().startswith(NOT_RUN):
            not_run = line.strip().removeprefix(NOT_RUN)
        elif match := CODE.fullmatch(line):
            start, indent = number + 1, len(match[1]) + 1
            number = start
            while number < len(lines) and (not lines[number] or lines[number][:indent].isspace()):
                number += 1
            caption, text = _read(lines[start:number])
            language = match[2] or _looks_like(text)
            yield Block(
                f"{page.relative_to(ROOT)}:{start}", section, language, caption, text, not_run
            )
            not_run = ""
            continue
        elif line.strip():
            not_run = ""
        number += 1


def _read(lines: list[str]) -> tuple[str, str]:
    """Return the caption and the text of a block's lines."""
    indent = min(len(line) - len(line.lstrip()) for line in lines if line)
    lines = [line[indent:] for line in lines]
    caption = ""
    while lines[0]:
        if match := re.fullmatch(r":caption: (.+)", lines[0]):
            caption = match[1]
        del lines[0]
    return caption, "\n".join(lines).strip("\n") + "\n"


def _looks_like(text: str) -> str:
    if text.startswith(("$ ", "# ")):
        return "console"
    return "sh" if re.match(r"python |export |\.venv/", text) else "python"
