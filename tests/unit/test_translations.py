"""The catalogues of the pages: nothing is missing, nothing is out of date.

GNU gettext writes them, and is not needed here.
"""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from django.utils.translation.template import templatize

import rapidsms_db_router

CORE = Path(rapidsms_db_router.__file__).parent
#: Where an app's code is, and its catalogues.
APPS = {"core": CORE, "operations": CORE / "operations"}
LANGUAGES = "ar", "fr"
CATALOGUES = [(app, language) for app in APPS for language in LANGUAGES]
#: Functions that mark a string.
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
#: The call of one, up to its first argument.
CALL = re.compile(
    r"""(?:\bn?gettext|\b_)\(u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""",
)
HELP = (
    "In rapidsms_db_router/ run: django-admin makemessages --all --no-location"
    " --no-obsolete; translate what is empty or fuzzy; then: django-admin compilemessages."
)


def marked(app: str) -> set[str]:
    """Every string of an app that is marked for translation, in code and in templates."""
    found = set()
    for file in files(app, "py"):
        found |= marked_in(ast.parse(file.read_text(encoding="utf-8")))
    for file in files(app, "html"):
        # a template as GNU gettext would read it: calls, and X in place of all other text
        calls = CALL.findall(templatize(file.read_text(encoding="utf-8")))
        found |= {ast.literal_eval(call) for call in calls}
    return found


def files(app: str, kind: str) -> list[Path]:
    """The files of an app, and of no app in a folder of it."""
    found = list(APPS[app].rglob(f"*.{kind}"))
    if app == "core":
        return [file for file in found if not file.is_relative_to(APPS["operations"])]
    return found


def marked_in(tree: ast.AST) -> set[str]:
    """The first argument of each call that marks a string."""
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if getattr(call.func, "id", None) in MARKS
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def source(app: str, language: str) -> dict[str, tuple[str, ...]]:
    """The translations of a catalogue's source, one or more by the string that they are of."""
    file = APPS[app] / "locale" / language / "LC_MESSAGES" / "django.po"
    text = file.read_text(encoding="utf-8")
    assert "fuzzy" not in text, HELP
    found = {}
    for entry in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in entry.splitlines():
            if line.startswith("msg"):
                name, _, line = line.partition(" ")
                fields[name] = ""
            if line.startswith('"'):
                fields[name] += ast.literal_eval(line)
        if fields.get("msgid"):
            said = [fields[name] for name in sorted(fields) if name.startswith("msgstr")]
            found[fields["msgid"]] = tuple(said)
    return found


def compiled(app: str, language: str) -> dict[str, tuple[str, ...]]:
    """The translations of a compiled catalogue, as :func:`source` has them."""
    path = APPS[app] / "locale" / language / "LC_MESSAGES" / "django.mo"
    with path.open("rb") as file:
        catalogue: Any = gettext.GNUTranslations(file)
    found: dict[str, list[str]] = {}
    for key, said in catalogue._catalog.items():
        found.setdefault(key[0] if isinstance(key, tuple) else key, []).append(said)
    found.pop("", None)
    return {key: tuple(said) for key, said in found.items()}


@pytest.mark.parametrize(("app", "language"), CATALOGUES)
def test_each_string_is_translated_and_no_other(app, language):
    translated = {key for key, said in source(app, language).items() if all(said)}
    assert marked(app) - translated == set(), HELP
    assert source(app, language).keys() - marked(app) == set(), HELP


@pytest.mark.parametrize(("app", "language"), CATALOGUES)
def test_the_compiled_catalogue_is_that_of_its_source(app, language):
    assert compiled(app, language) == source(app, language), HELP


@pytest.mark.parametrize(("app", "language"), CATALOGUES)
def test_a_translation_names_the_values_that_its_original_names(app, language):
    names = re.compile(r"%\(\w+\)[sd]")
    for key, said in source(app, language).items():
        for each in said:
            assert set(names.findall(each)) == set(names.findall(key)), each


def test_strings_are_found():
    assert {"No incident.", "Operations", "Waiting"} < marked("operations")


@pytest.mark.parametrize(("language", "word"), [("fr", "Échec"), ("ar", "فشلت")])
def test_django_finds_the_translations(language, word):
    with translation.override(language):
        assert translation.gettext("Failed") == word
