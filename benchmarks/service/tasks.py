"""A bare Celery task."""

from __future__ import annotations

import os
import time

from celery import shared_task


@shared_task
def note_time(path: str) -> None:
    """Write the time at the end of a file: all that tells when the task was run."""
    # one write at the end of the file: so processes do not write into each other's lines
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{time.time()}\n".encode())
    finally:
        os.close(descriptor)
