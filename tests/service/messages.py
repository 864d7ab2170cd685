"""Message classes of the tests."""

from __future__ import annotations

from typing import Any

from rapidsms.messages.incoming import IncomingMessage
from rapidsms.messages.outgoing import OutgoingMessage


class FormMessage(IncomingMessage):
    """An inbound message of a class of the project's own."""


class PriorityMessage(OutgoingMessage):
    """Tells the backend to hurry."""

    def extra_backend_context(self) -> dict[str, Any]:
        """Add the priority, and what was passed as fields."""
        return {**super().extra_backend_context(), "priority": "high", **self.fields}
