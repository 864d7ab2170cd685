"""Each block of code in the documentation is right, as far as can be seen without a server.

Python can be compiled, and what it imports is there. A command of ``manage.py`` exists and takes
the options that are shown. Scripts and configurations can be parsed. A page says before a block why
no test can look at it.
"""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import shlex
import subprocess

import pytest
from django.core.management import get_commands, load_command_class

from tests.docs.pages import ROOT, Block, blocks, pages

BLOCKS = [block for page in pages() for block in blocks(page) if not block.not_run]
#: Whose names are looked for.
KNOWN = ("celery", "django", "rapidsms", "rapidsms_db_router")
#: What Celery, Django or a shell puts in the place of our commands.
OTHERS = {"celery"}


def of(*languages: str) -> list[object]:
    """Return the blocks of some languages as parameters of a test."""
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.language in languages]


@pytest.mark.parametrize("block", of("python"))
def test_python_can_be_compiled_and_what_it_imports_is_there(block: Block):
    # an ellipsis stands for what a project has there already
    source = re.sub(r"^(\s*)\.\.\.,?$", r"\1", block.text, flags=re.MULTILINE)
    try:
        tree = ast.parse(source)
    except SyntaxError:
        # a line of a list, as it is added
        tree = ast.parse(f"[\n{source}\n]")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] in KNOWN:
                    importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in KNOWN:
            for name in node.names:
                assert _has(str(node.module), name.name), f"{node.module} has no {name.name}"


def _has(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


def commands() -> list[object]:
    """Return each command of ``manage.py`` in a console or a shell, with its options."""
    found = []
    for block in BLOCKS:
        if block.language == "console":
            lines = [command for command, _ in block.expected()]
        elif block.language in ("sh", "bash"):
            lines = block.text.splitlines()
        else:
            continue
        for line in lines:
            if match := re.search(r"manage\.py (\w+)(.*?)(?: \d?>| [|&;]|;|$)", line):
                found.append(pytest.param(*match.groups(), id=f"{block.where} {match[1]}"))
    return found


@pytest.mark.parametrize(("name", "options"), commands())
def test_a_command_exists_and_takes_the_options_that_are_shown(name: str, options: str):
    assert name in get_commands()
    if name in OTHERS or options.count('"') % 2:
        return
    app = get_commands()[name]
    command = load_command_class(app, name) if isinstance(app, str) else app
    words = [word for word in shlex.split(options, comments=True) if word != "\\"]
    try:
        command.create_parser("manage.py", name).parse_args(words)
    except SystemExit as err:  # what argparse prints says why
        assert err.code == 0, f"{name} {words}"


@pytest.mark.parametrize("block", of("sh", "bash", "console"))
def test_a_shell_can_parse_what_it_is_given(block: Block):
    script = block.text
    if block.language == "console":
        script = "\n".join(command for command, _ in block.expected())
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", of("ini"))
def test_a_configuration_can_be_parsed(block: Block):
    # systemd repeats keys, and has percent signs
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(block.text)
    assert all(parser[section] for section in parser.sections())


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_to_a_file_of_the_repository_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"`[^`<]+ <([^`>]+)>`__?", text) + re.findall(r"image:: (\S+)", text)
    for link in links:
        if not re.match(r"\w+:", link):
            # Sphinx reads a leading slash as the folder of the documentation
            start = ROOT / "docs" if link.startswith("/") else page.parent
            assert (start / link.partition("#")[0].lstrip("/")).exists(), link
