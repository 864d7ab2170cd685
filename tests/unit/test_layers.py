"""The house: what imports what, how large a module is, and which names are gone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rapidsms_db_router

PACKAGE = "rapidsms_db_router"
FOLDER = Path(rapidsms_db_router.__file__).parent

#: From the bottom up. A module imports what stands in a lower layer, or in its own folder.
LAYERS = (
    {"activation", "personal", "template"},
    {
        "backoff",
        "brokers",
        "choices",
        "conf",
        "db",
        "errors",
        "identities",
        "reverse_names",
        "signals",
    },
    {"acting", "masking", "models"},
    {"worker"},
    {"engine"},
    {"limits"},
    {"reports"},
    {"storage"},
    {"publishing"},
    {"outbound"},
    {"inbound"},
    {"bulk_actions", "deleting", "moving_in"},
    {"admin", "recovery", "router"},
    {"checks", "management", "migrations", "tasks"},
    {"apps"},
    {"gateways"},
    {"operations"},
    # the package itself, by which settings name the router
    {""},
)
#: The most lines of a module.
LONGEST = 350
#: Modules of an earlier design, and the words of its mechanisms.
GONE = {"delivery", "gates", "single", "queueing"}


def name_of(path: Path) -> str:
    parts = (PACKAGE, *path.relative_to(FOLDER).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(FOLDER.rglob("*.py"))}


def imports(source: str, module: str = PACKAGE, *, typing: bool = True) -> set[str]:
    """Return the modules of this package that a source imports, in functions too.

    :param module: whose source it is; a package's ends with ``.__init__``.
    :param typing: whether imports for type checkers alone count.
    """
    found = set()
    for statement in _import_statements(ast.parse(source), typing=typing):
        if isinstance(statement, ast.Import):
            names = {alias.name for alias in statement.names}
        else:
            base = statement.module or ""
            if statement.level:
                above = module.split(".")[: -statement.level]
                base = ".".join([*above, *filter(None, [base])])
            # "from package import module" names a module, or something in the package
            names = {f"{base}.{alias.name}" for alias in statement.names}
            names = {name if name in MODULES else base for name in names}
        found |= {name for name in names if name.split(".")[0] == PACKAGE}
    return found


def _import_statements(tree: ast.AST, *, typing: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif typing or not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from _import_statements(node, typing=typing)


def imports_of(module: str, *, typing: bool = True) -> set[str]:
    path = MODULES[module]
    own = f"{module}.__init__" if path.stem == "__init__" else module
    return imports(path.read_text(encoding="utf-8"), own, typing=typing)


def folder_of(module: str) -> str:
    """Return the part of the package that a module belongs to: a folder, or the module itself."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


HEIGHTS = {folder: height for height, layer in enumerate(LAYERS) for folder in layer}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_stands_in_a_layer(module):
    assert folder_of(module) in HEIGHTS


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_that_stands_above_or_beside_it(module):
    mine = folder_of(module)
    wrong = {
        imported
        for imported in imports_of(module)
        if folder_of(imported) != mine and HEIGHTS[folder_of(imported)] >= HEIGHTS[mine]
    }
    assert wrong == set()


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: imports_of(module, typing=False) for module in MODULES}
    # what nothing is left to import stands in no circle
    while leaves := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in leaves}
    assert sorted(graph) == []


@pytest.mark.parametrize(
    "module", [module for module in MODULES if folder_of(module) != "migrations"]
)
def test_a_module_is_no_longer_than_can_be_read_at_once(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_no_name_of_an_earlier_design(module):
    assert not GONE & set(module.split("."))


# The test itself


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import rapidsms_db_router.conf", {"conf"}),
        ("from rapidsms_db_router import conf, models", {"conf", "models"}),
        ("from rapidsms_db_router.models import Message, status", {"models", "models.status"}),
        ("from rapidsms_db_router.models.status import settle", {"models.status"}),
        ("def f():\n    class C:\n        from rapidsms_db_router import tasks", {"tasks"}),
        ("try:\n    pass\nexcept E:\n    from rapidsms_db_router import tasks", {"tasks"}),
        ("if TYPE_CHECKING:\n    from rapidsms_db_router import tasks", {"tasks"}),
        ("from . import conf", {"conf"}),
        ("from .models import status", {"models.status"}),
        ("import os\nfrom django.db import models\nfrom rapidsms.models import Backend", set()),
    ],
)
def test_every_import_statement_is_seen(source, found):
    assert imports(source, f"{PACKAGE}.router") == {f"{PACKAGE}.{name}" for name in found}


def test_an_import_for_type_checkers_closes_no_circle():
    source = "if TYPE_CHECKING:\n    from rapidsms_db_router import tasks"
    assert imports(source, typing=False) == set()


def test_the_package_has_its_modules():
    assert {f"{PACKAGE}.{name}" for name in ("router", "outbound.sender", "models")} <= set(MODULES)
