"""Describes settings and backend options, their default and kind as the code has them.

``.. setting:: NAME`` and ``.. backend-option:: name`` describe one each; ``:setting:`` and
``:backend-option:`` link to the description.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import desc_name, desc_signature
from sphinx.application import Sphinx
from sphinx.directives import ObjectDescription
from sphinx.roles import XRefRole
from sphinx.util.nodes import make_id

from rapidsms_db_router import conf
from rapidsms_db_router.checks import settings as checks


class Option(ObjectDescription[str]):
    """What settings and backend options have in common."""

    def handle_signature(self, sig: str, signode: desc_signature) -> str:
        """Show the name."""
        signode += desc_name(sig, sig)
        return sig

    def add_target_and_index(self, name: str, sig: str, signode: desc_signature) -> None:
        """Make the description one that can be linked to."""
        node_id = make_id(self.env, self.state.document, self.objtype, name)
        signode["ids"].append(node_id)
        self.env.domains.standard_domain.note_object(self.objtype, name, node_id, location=signode)

    def transform_content(self, content: nodes.Element) -> None:
        """Put what the code knows below what the author wrote."""
        content += nodes.paragraph("", "", *self.facts(self.names[0]))

    def facts(self, name: str) -> list[nodes.Node]:
        """Return what the code knows of ``name``."""
        raise NotImplementedError


class Setting(Option):
    """A Django setting."""

    def facts(self, name: str) -> list[nodes.Node]:
        """Return default, kind and check."""
        id_, (_, kind) = checks.SETTINGS[name]
        default = str(conf.DEFAULTS[name])
        return [
            nodes.Text("Default: "),
            nodes.literal(default, default),
            nodes.Text(f". Value: {kind}; anything else is error "),
            nodes.literal(id_, checks.ID + id_),
            nodes.Text("."),
        ]


class BackendOption(Option):
    """A key of a backend's entry in ``INSTALLED_BACKENDS``."""

    def facts(self, name: str) -> list[nodes.Node]:
        """Return kind and check."""
        _, kind = checks.BACKEND_OPTIONS[name]
        return [
            nodes.Text(f"Value: {kind}; anything else is error "),
            nodes.literal("E012", checks.ID + "E012"),
            nodes.Text("."),
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register directives and roles."""
    for name, directive in {"setting": Setting, "backend-option": BackendOption}.items():
        app.add_object_type(name, name)
        app.add_directive_to_domain("std", name, directive, override=True)
        app.add_role_to_domain("std", name, XRefRole(), override=True)
    return {"parallel_read_safe": True}
