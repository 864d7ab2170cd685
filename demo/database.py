"""The demo's database, which begins anew when the migrations are no longer those that made it."""

from hashlib import sha256
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

#: Name and password of the user.
LOGIN = "demo"


def prepare(folder):
    """Bring the database up to date, or begin a new one; return whether an old one was replaced.

    The migrations of an app that is not released yet are rewritten, so that a database of another
    commit may have tables that do not fit.

    :param folder: where it is noted which migrations have made the database.
    """
    database, note = Path(settings.DATABASES["default"]["NAME"]), folder / "migrations"
    digest = migrations_digest()
    replaced = database.exists() and not (note.exists() and note.read_text() == digest)
    if replaced:
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()
    call_command("migrate", verbosity=0)
    note.write_text(digest)
    if not User.objects.filter(username=LOGIN).exists():
        User.objects.create_superuser(LOGIN, password=LOGIN)
    return replaced


def migrations_digest():
    """Return a digest of the migrations of this project."""
    digest = sha256()
    project = Path(__file__).parent.parent
    for app in sorted(apps.get_app_configs(), key=lambda app: app.label):
        if Path(app.path).is_relative_to(project):
            for file in sorted(Path(app.path, "migrations").glob("*.py")):
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
