"""Filters of the pages."""

from __future__ import annotations

from django import template
from django.utils.formats import number_format

register = template.Library()


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
def number(value: int) -> str:
    """A whole number, in groups of three digits."""
    return number_format(value, force_grouping=True)


@register.filter
def coordinate(value: float) -> str:
    """A number as SVG has it, whatever the language of the page."""
    return f"{value:.1f}"
