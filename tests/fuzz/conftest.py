"""How long the fuzz tests look for a counterexample.

By default each test takes some dozens of examples. ``make fuzz`` takes as many as an hour allows.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

#: Fixtures of a test live as long as all of its examples; no example depends on absolute speed.
COMMON = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)

settings.register_profile("short", COMMON, max_examples=50, derandomize=True)
settings.register_profile("long", COMMON, max_examples=5_000)
settings.load_profile("short")
