"""Shifts the clock of a Python process, for what it imports after this.

Python imports a module of this name before all others if its folder is in PYTHONPATH. Shifted by
STORMS_CLOCK_SHIFT seconds are ``time.time`` and what ``datetime`` takes for now; what a process
measures with ``time.monotonic`` is right, as it is on a machine whose clock is wrong.
"""

import datetime
import os
import time

SHIFT = float(os.environ["STORMS_CLOCK_SHIFT"])

_time, _time_ns = time.time, time.time_ns
_datetime = datetime.datetime


class _AnyDatetime(type):
    """Takes dates that C code has made for what they are."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class ShiftedDatetime(_datetime, metaclass=_AnyDatetime):
    """``datetime.datetime`` with another now."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return _datetime.now(tz) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def utcnow(cls) -> datetime.datetime:
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

    @classmethod
    def today(cls) -> datetime.datetime:
        return cls.now()


time.time = lambda: _time() + SHIFT
time.time_ns = lambda: _time_ns() + int(SHIFT * 1e9)
datetime.datetime = ShiftedDatetime
