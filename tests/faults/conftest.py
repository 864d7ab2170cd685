"""Tells how many crash points there were."""

from __future__ import annotations

from typing import Any

CRASH_POINTS = "crash points"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the number of crash points of each test that has counted them."""
    counted = [
        (report.nodeid.rpartition("::")[2], value)
        for report in terminalreporter.stats.get("passed", ())
        for name, value in report.user_properties
        if name == CRASH_POINTS and report.when == "call"
    ]
    if counted:
        terminalreporter.section("crash points")
    for name, value in counted:
        terminalreporter.write_line(f"{value:5} {name}")
    if counted:
        terminalreporter.write_line(f"{sum(value for _, value in counted):5} in all")
