"""Backends of the tests, and what they were told to send in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from rapidsms.backends.base import BackendBase


class Call(NamedTuple):
    """One call of a backend's ``send``."""

    backend: str
    id_: Any
    text: str
    identities: list[str]
    context: dict[str, Any] | None


#: Every call of every backend in this process, failed ones too.
calls: list[Call] = []


class RecordingBackend(BackendBase):
    """Accepts everything."""

    def send(
        self, id_: Any, text: str, identities: list[str], context: dict[str, Any] | None = None
    ) -> None:
        """Remember the call."""
        calls.append(Call(self.name, id_, text, list(identities), context))


class Refused(Exception):
    """No exception of RapidSMS's, yet it names who did not get the message."""

    def __init__(self, text: str, failed_identities: Collection[str]) -> None:
        self.failed_identities = failed_identities
        super().__init__(f"{failed_identities} refused {text!r}")


class RefusingBackend(RecordingBackend):
    """Accepts all but the numbers in its option ``refuses``, and names those."""

    def configure(self, refuses: Collection[str] = (), **kwargs: Any) -> None:
        """Take the option."""
        self.refuses = refuses

    def send(self, id_: Any, text: str, identities: list[str], context: Any = None) -> None:
        """Remember the call, then name who was refused."""
        super().send(id_, text, identities, context)
        if refused := [identity for identity in identities if identity in self.refuses]:
            raise Refused(text, refused)


class FailingBackend(RecordingBackend):
    """Fails without naming anyone; only the first calls, if its option ``failures`` says so."""

    def configure(self, failures: float = float("inf"), **kwargs: Any) -> None:
        """Take the option."""
        self.failures = failures

    def send(self, id_: Any, text: str, identities: list[str], context: Any = None) -> None:
        """Remember the call, then raise an exception with text and numbers in it."""
        super().send(id_, text, identities, context)
        if sum(call.backend == self.name for call in calls) <= self.failures:
            raise ConnectionError(f"no way to {identities} for {text!r}")


class AnsweringBackend(RecordingBackend):
    """Answers with what its option ``answer`` returns, or raises, for the identities."""

    def configure(self, answer: Callable[[list[str]], Any], **kwargs: Any) -> None:
        """Take the option."""
        self.answer = answer

    def send(self, id_: Any, text: str, identities: list[str], context: Any = None) -> Any:
        """Remember the call, then answer."""
        super().send(id_, text, identities, context)
        return self.answer(identities)
