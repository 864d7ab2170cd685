"""Signals of the operations app; sent by the worker that has recovery's turn.

``incident_began``
    Something needs a person. ``code`` (``"out_of_order"``, ``"behind"``, ``"no_worker"``),
    ``backend`` (a name, or an empty string) and ``sentence``.
``incident_ended``
    It does no longer: ``code`` and ``backend``.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ("incident_began", "incident_ended")

incident_began = Signal()
incident_ended = Signal()
