"""Calls one function, and prints what it returns."""

from __future__ import annotations

import json
import sys

from benchmarks.inside import FUNCTIONS, calling, filling, floor, steps

__all__ = ("calling", "filling", "floor", "steps")


def main(name: str, *arguments: str) -> None:
    """Call a function; numbers among its arguments are written as JSON."""
    values = [json.loads(word) if word[0].isdigit() else word for word in arguments]
    print(json.dumps(FUNCTIONS[name](*values)))


if __name__ == "__main__":
    main(*sys.argv[1:])
