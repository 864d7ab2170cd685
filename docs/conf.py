"""Sphinx configuration."""

import os
import sys
from pathlib import Path

import django

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from rapidsms_db_router import __version__  # noqa: E402 - Django comes first

project = "rapidsms-db-router"
author = "the rapidsms-db-router authors"
copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc", "options"]
# the table is part of explanation.rst
exclude_patterns = ["_build", "measured-faults.rst"]

# what others document, and what says itself in a docstring without a page of its own
nitpick_ignore_regex = [(r"py:\w+", r"(rapidsms|django)\..*|MessageSendingError|.*\.LazyRouter")]

html_theme = "furo"
html_title = "rapidsms-db-router"
html_show_copyright = False

autodoc_default_options = {"no-value": True}
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"
add_module_names = False
python_use_unqualified_type_names = True
