"""What the figures say: a table of what is to be reached, all medians, JSON and a chart."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.results import FLOOR, OLD, OURS, THEIRS, Results
from benchmarks.targets import RATES, rows
from tests import servers


def table(results: Results) -> str:
    """Return the table as text, and below it every median."""
    lines = [("", "compared with", "its figure", "ours", "ratio", "target", "reached")]
    for row in rows(results):
        words = (row.other, row.ours, row.ratio)
        numbers = (number(value) for value in words)
        reached = "yes" if row.reached else "NO"
        other, ours, ratio = numbers
        lines.append((row.what, row.compared_with, other, ours, ratio, row.target, reached))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    details = (
        f"{case}, {size:,}, {who}: "
        + ", ".join(f"{name} {number(value)}" for name, value in figures.items())
        for case, size, who, figures in results.medians()
    )
    return "\n".join((text, "", "Medians:", *details))


def write(results: Results, folder: Path, runs: int, old_rows: int) -> None:
    """Write ``benchmarks.json`` and ``benchmarks.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        **surroundings(),
        "runs": runs,
        "old_rows": old_rows,
        "others_share": results.busy(),
        "table": [row._asdict() for row in rows(results)],
        "figures": results.figures,
    }
    (folder / "benchmarks.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "benchmarks.svg").write_text(chart(results))


def chart(results: Results) -> str:
    """Return bars of the rates, those of each case as parts of its largest."""
    colours = {THEIRS: "#b45309", OURS: "#0f766e", OLD: "#5eada5", FLOOR: "#9ca3af"}
    label, width, height = 230, 380, 16
    shapes, top = [], 30
    for number_, (who, colour) in enumerate(colours.items()):
        name = {THEIRS: "rapidsms.router.db", FLOOR: "floor (bare SQL)"}.get(who, who)
        left = 10 + 160 * number_
        shapes.append(f'<rect x="{left}" y="8" width="10" height="10" fill="{colour}"/>')
        shapes.append(f'<text x="{left + 15}" y="17">{escape(name)}</text>')
    for case, rate in RATES.items():
        for size, everyone in results.figures.get(case, {}).items():
            rates = {who: results.median(case, size, who, rate) or 0 for who in everyone}
            shapes.append(f'<text x="10" y="{top + 13}">{escape(f"{case}, {size:,}")}</text>')
            for who in (who for who in colours if who in rates):
                length = max(1, width * rates[who] / max(rates.values()))
                shapes.append(
                    f'<rect x="{label}" y="{top}" width="{length:.1f}"'
                    f' height="{height - 2}" fill="{colours[who]}"/>'
                )
                right = f'x="{label + length + 5:.1f}" y="{top + 12}"'
                shapes.append(f"<text {right}>{rates[who]:,.0f}/s</text>")
                top += height
            top += 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {top}"'
        f' font-family="sans-serif" font-size="12">\n'
        f'<rect width="700" height="{top}" fill="white"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def number(value: float | None) -> str:
    """Return a number with as many digits as tell something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def surroundings() -> dict[str, Any]:
    """Return when, on what machine, and with what versions."""
    with servers.connect_postgres() as server:
        postgres = server.execute("SHOW server_version").fetchone()[0]
    with servers.connect_broker("redis") as broker:
        redis = broker.default_channel.client.info("server")["redis_version"]
    packages = ("rapidsms-db-router", "RapidSMS", "Django", "celery", "kombu", "psycopg", "redis")
    processors = Path("/proc/cpuinfo").read_text().partition("model name")[2]
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "model": processors.partition(":")[2].partition("\n")[0].strip(),
            "system": platform.platform(),
        },
        "versions": {
            "Python": platform.python_version(),
            "PostgreSQL server": postgres,
            "Redis server": redis,
            **{package: version(package) for package in packages},
        },
    }
