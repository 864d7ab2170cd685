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

from rapidsms_db_router import operations

APP = Path(operations.__file__).parent
LANGUAGES = "ar", "fr"
#: Functions that mark a string.
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
#: The call of one, up to its first argument.
CALL = re.compile(
    r"""(?:\bn?gettext|\b_)\(u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""",
)
HELP = (
    "In rapidsms_db_router/operations run: django-admin makemessages --all --no-location"
    " --no-obsolete; translate what is empty or fuzzy; then: django-admin compilemessages."
)


def marked() -> set[str]:
    """Every string that is marked for translation, in code and in templates."""
    found = set()
    for file in APP.rglob("*.py"):
        found |= marked_in(ast.parse(file.read_text(encoding="utf-8")))
    for file in APP.rglob("*.html"):
        # a template as GNU gettext would read it: calls, and X in place of all other text
        calls = CALL.findall(templatize(file.read_text(encoding="utf-8")))
        found |= {ast.literal_eval(call) for call in calls}
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


def source(language: str) -> dict[str, tuple[str, ...]]:
    """The translations of a catalogue's source, one or more by the string that they are of."""
    text = (APP / "locale" / language / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")
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


def compiled(language: str) -> dict[str, tuple[str, ...]]:
    """The translations of a compiled catalogue, as :func:`source` has them."""
    path = APP / "locale" / language / "LC_MESSAGES" / "django.mo"
    with path.open("rb") as file:
        catalogue: Any = gettext.GNUTranslations(file)
    found: dict[str, list[str]] = {}
    for key, said in catalogue._catalog.items():
        found.setdefault(key[0] if isinstance(key, tuple) else key, []).append(said)
    found.pop("", None)
    return {key: tuple(said) for key, said in found.items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_string_is_translated_and_no_other(language):
    translated = {key for key, said in source(language).items() if all(said)}
    assert marked() - translated == set(), HELP
    assert source(language).keys() - marked() == set(), HELP


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_catalogue_is_that_of_its_source(language):
    assert compiled(language) == source(language), HELP


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_names_the_values_that_its_original_names(language):
    names = re.compile(r"%\(\w+\)[sd]")
    for key, said in source(language).items():
        for each in said:
            assert set(names.findall(each)) == set(names.findall(key)), each


def test_strings_are_found():
    assert {"No incident.", "Operations", "In flight"} < marked()


@pytest.mark.parametrize(("language", "word"), [("fr", "Échec"), ("ar", "فشلت")])
def test_django_finds_the_translations(language, word):
    with translation.override(language):
        assert translation.gettext("Failed") == word
