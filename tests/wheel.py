"""Proves that the installed package works without the checkout: one SMS in, one reply out.

Run as a script from outside the checkout, with a Python that has the wheel installed and
nothing else of ours.
"""

import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rapidsms",
        "rapidsms.backends.database",
        "rapidsms.contrib.handlers",
        "rapidsms_db_router",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
    RAPIDSMS_ROUTER="rapidsms_db_router.DatabaseRouter",
    RAPIDSMS_HANDLERS=["rapidsms.contrib.echo.handlers.ping.PingHandler"],
    INSTALLED_BACKENDS={"phone": {"ENGINE": "rapidsms.backends.database.DatabaseBackend"}},
    CELERY_TASK_ALWAYS_EAGER=True,
)


def main() -> None:
    django.setup()
    import rapidsms_db_router

    package = Path(rapidsms_db_router.__file__).parent
    assert "site-packages" in package.parts, f"not the installed package: {package}"
    assert (package / "py.typed").exists(), "py.typed is not in the wheel"
    call_command("check", fail_level="WARNING")
    call_command("migrate", verbosity=0)

    from rapidsms.backends.database.models import BackendMessage
    from rapidsms.router import lookup_connections, receive

    from rapidsms_db_router.models import Message

    receive("ping", lookup_connections("phone", ["4155550100"])[0])
    assert list(Message.objects.order_by("pk").values_list("direction", "status")) == [
        ("I", "R"),
        ("O", "S"),
    ]
    assert BackendMessage.objects.get().text == "pong"
    versions = f"Python {sys.version.split()[0]}, Django {django.get_version()}"
    print(f"rapidsms-db-router {rapidsms_db_router.__version__} works from its wheel ({versions})")


if __name__ == "__main__":
    main()
