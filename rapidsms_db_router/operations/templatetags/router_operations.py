"""Filters of the pages."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from rapidsms_db_router.identities import masked
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.operations import words
from rapidsms_db_router.operations.models import AuditEntry, AuditSubject
from rapidsms_db_router.operations.reasons import reason_of

register = template.Library()

#: By kind of what an action was about: its page.
SUBJECT_PAGES: dict[str, str] = {
    AuditSubject.Kind.BACKEND: "router-backend",
    AuditSubject.Kind.MESSAGE: "router-broadcast",
    AuditSubject.Kind.CONNECTION: "router-conversation",
    AuditSubject.Kind.BULK_ACTION: "router-action",
}


@register.filter
def share(value: float | None) -> str:
    """A share as percent; a dash for none."""
    return "-" if value is None else f"{number_format(value * 100, 1)} %"


@register.filter
def seconds(value: float | None) -> str:
    """A duration, in seconds, minutes or hours; a dash for none."""
    if value is None:
        return "-"
    for unit, length in (("h", 3600), ("min", 60)):
        if value >= 2 * length:
            return f"{number_format(value / length, 1)} {unit}"
    return f"{number_format(value, 1)} s"


@register.filter
def per_second(value: float | None) -> str:
    """A rate; a dash for none."""
    if value is None:
        return "-"
    return f"{number_format(int(value) if value == int(value) else round(value, 2))}/s"


@register.filter
def number(value: int) -> str:
    """A whole number, in groups of three digits."""
    return number_format(value, force_grouping=True)


@register.filter
def coordinate(value: float) -> str:
    """A number as SVG has it, whatever the language of the page."""
    return f"{value:.1f}"


@register.filter
def direction(row: Transmission) -> Any:
    """Whether a transmission is from or to its number."""
    return words.DIRECTIONS[row.message.direction]


@register.filter
def state(row: Transmission) -> Any:
    """What has become of a transmission, in a word."""
    return words.STATES[words.state_of(row)][0]


@register.filter
def state_class(row: Transmission) -> str:
    """The class that gives the word its colour."""
    return words.LABELS.get(words.state_of(row), "")


@register.filter
def identity(said: str, may_see: bool) -> str:
    """A number; for others its last digits."""
    return said if may_see else masked(said)


@register.filter
def number_of(row: Transmission, may_see: bool) -> str:
    """The number of a transmission; for others its last digits."""
    return identity(row.identity, may_see)


@register.filter
def backend_name(backend: Any) -> str:
    """The name of a backend, also of one that was deleted."""
    return str(getattr(backend, "name", backend))


@register.filter
def text_of(row: Transmission, may_see: bool) -> str:
    """The text of a transmission; for others its length."""
    return personal(row.message.text, may_see)


@register.filter
def personal(text: str, may_see: bool) -> str:
    """A text; for others its length."""
    return text if may_see else _("%(number)s characters") % {"number": len(text)}


@register.filter
def state_word(name: str) -> Any:
    """The word for a state."""
    return words.STATES[name][0]


@register.filter
def error_of(row: Transmission, may_see: bool) -> str:
    """The error of a transmission; for others without whatever may be personal."""
    return row.error if may_see else reason_of(row.error)


@register.filter
def action_words(entry: AuditEntry) -> Any:
    """What a person has done, in words."""
    return words.ACTIONS.get(entry.kind, entry.kind)


@register.filter
def reason_for(entry: AuditEntry, may_see: bool) -> str:
    """Why, in the person's words; for others without whatever may be personal."""
    return entry.reason if may_see else reason_of(entry.reason)


@register.filter
def subject_words(subject: AuditSubject) -> str:
    """What an action was about."""
    return subject.name or f"{subject.get_kind_display()} {subject.row}"


@register.filter
def subject_url(subject: AuditSubject) -> str:
    """The page of what an action was about; empty if it has none."""
    page = SUBJECT_PAGES.get(subject.kind)
    return reverse(page, args=[subject.row]) if page else ""


@register.simple_tag(takes_context=True)
def query(context: Any, **changed: Any) -> str:
    """The parameters of the page with some of them changed."""
    parameters = context["request"].GET.copy()
    for name, value in changed.items():
        parameters[name] = value
    return str(parameters.urlencode())
