"""Checks of Celery's settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery import current_app
from celery.app.backends import by_url
from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, register

from rapidsms_db_router.checks.settings import ID


@register(Tags.compatibility)
def check_celery(**_: Any) -> list[CheckMessage]:
    """Check for Celery settings with which no task could be published, taken or ended.

    E030
        Celery cannot read its settings.
    E031
        Workers do not accept JSON.
    E032
        The result backend cannot be used.
    E033
        The broker's URL or transport cannot be used, or a folder of the file-system transport
        is missing.
    """
    app = current_app
    try:
        accepted = set(app.conf.accept_content or ())
    except Exception as err:  # old and new setting names mixed, a module that is not there, ...
        return [
            Error(
                f"Celery cannot read its settings: {err}",
                hint="Correct the CELERY_ settings, or what the project's celery.py reads.",
                id=ID + "E030",
            )
        ]
    return [*_check_accepted(accepted), *_check_result_backend(app), *_check_transport(app)]


def _check_accepted(accepted: set[str]) -> Iterator[CheckMessage]:
    if not accepted & {"json", "application/json"}:
        yield Error(
            f"Workers accept {', '.join(sorted(accepted)) or 'nothing'}, and this app's tasks"
            " are JSON.",
            hint="Add 'json' to CELERY_ACCEPT_CONTENT.",
            id=ID + "E031",
        )


def _check_result_backend(app: Any) -> Iterator[CheckMessage]:
    backend = app.conf.result_backend
    problem = None
    if str(backend).startswith(("django-db", "django-cache")) and not apps.is_installed(
        "django_celery_results"
    ):
        problem = "django_celery_results is not in INSTALLED_APPS"
    elif isinstance(backend, str):
        try:
            by_url(backend, app.loader)
        except Exception as err:
            problem = str(err)
    if problem:
        yield Error(
            f"Celery's result backend cannot be used: {problem}.",
            hint="Correct CELERY_RESULT_BACKEND, or remove it: this app needs no results.",
            id=ID + "E032",
        )


def _check_transport(app: Any) -> Iterator[CheckMessage]:
    try:
        with app.connection_for_write() as connection:
            # made on first use; connects to nothing
            if connection.transport.driver_type == "filesystem":
                for name in ("data_folder_in", "data_folder_out"):
                    Path(connection.transport_options.get(name, name)).resolve(strict=True)
    except Exception as err:
        yield Error(
            f"Celery's broker cannot be used: {err}.",
            hint="Correct CELERY_BROKER_URL and CELERY_BROKER_TRANSPORT_OPTIONS, make the folder"
            " that is missing, or install what the broker needs:"
            " pip install 'rapidsms-db-router[redis]' for Redis.",
            id=ID + "E033",
        )
