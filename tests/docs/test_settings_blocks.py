"""Settings that a page shows pass ``manage.py check`` in a project of the template."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from rapidsms_db_router.template import FOLDER
from tests.docs.pages import ROOT, Block, blocks, pages

#: Pages that ``test_walks`` follows word for word.
WALKED = {ROOT / "README.rst", ROOT / "docs/tutorial.rst", ROOT / "docs/howto/kannel.rst"}
#: Where the backend stands that the pages name, and the module that they have it in.
BACKEND = ROOT / "docs" / "howto" / "backends.rst"
MODULE = "greetings/gateway.py"


def is_whole(block: Block) -> bool:
    """Return whether a block has settings alone, and leaves none of them to the reader."""
    if block.not_run or block.language != "python" or "..." in block.text:
        return False
    statements = ast.parse(block.text).body
    return all(isinstance(each, ast.Assign | ast.AugAssign) for each in statements) and all(
        ast.unparse(target).partition("[")[0].isupper()
        for each in statements
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
    )


LOOKED_AT = [page for page in pages() if page not in WALKED]
WHOLE = [block for page in LOOKED_AT for block in blocks(page) if is_whole(block)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the template, with the backend that the pages name."""
    call_command("startproject", "service", str(tmp_path), template=str(FOLDER))
    module = next(block for block in blocks(BACKEND) if block.caption == MODULE)
    path = tmp_path / MODULE
    path.parent.mkdir()
    path.write_text(module.text)
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("block", [pytest.param(block, id=block.where) for block in WHOLE])
def test_settings_pass_the_checks(project: Path, block: Block):
    settings = project / "service" / "settings.py"
    settings.write_text(f"{settings.read_text()}\n{block.text}")
    environment = {**os.environ, "GATEWAY_TOKEN": "of a test", "PYTHONPATH": str(ROOT)}
    environment["DJANGO_SETTINGS_MODULE"] = "service.settings"
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.where}\n{done.stderr}"
