"""Archives: what is deleted, as compressed JSON lines with a checksum, in Django's storage."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import InvalidStorageError, Storage, default_storage, storages
from django.core.serializers.json import DjangoJSONEncoder

from rapidsms_db_router.choices import Direction, in_words
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.operations import export
from rapidsms_db_router.operations.retention.erasing import CHUNK

#: The alias in ``STORAGES``. Without it archives are in the default storage.
ALIAS = "router_archive"
#: The folder of archives.
FOLDER = "router-archives"
#: The name of a series of archives.
NAME = re.compile(r"[\w-]{1,50}", re.ASCII)
ENDING, CHECKSUM = ".jsonl.gz", ".sha256"

Line = dict[str, Any]


class ArchiveError(Exception):
    """An archive is not as it was written."""


@dataclass(frozen=True)
class Archive:
    """A series of archives with one name."""

    name: str

    def write(self, ids: Sequence[int]) -> str:
        """Write messages with their transmissions, and read them again.

        :param ids: primary keys of messages, in order, at least one.
        :returns: the name of the file.
        :raises ArchiveError: if what the storage returns is not what was written.
        """
        begins = f"{FOLDER}/{self.name}-{ids[0]}-{ids[-1]}-{now():%Y%m%dT%H%M%S%f}"
        return store(begins + ENDING, lines_of(ids))


def storage() -> Storage:
    """Return where archives are."""
    try:
        found: Storage = storages[ALIAS]
    except InvalidStorageError:
        return default_storage
    return found


def is_private() -> bool:
    """Return whether archives have a storage of their own."""
    return storage() is not default_storage


def store(name: str, lines: Iterable[Line]) -> str:
    """Write an archive and its checksum, and read it again.

    :returns: the name that the storage has given it.
    :raises ArchiveError: if what the storage returns is not what was written.
    """
    while storage().exists(name):
        # a storage of Django 4.2 would put what it adds between the two endings
        name = f"{name.removesuffix(ENDING)}-again{ENDING}"
    encode = json.JSONEncoder(default=DjangoJSONEncoder().default, ensure_ascii=False).encode
    with tempfile.TemporaryFile() as file:
        with gzip.open(file, "wt", encoding="utf-8", compresslevel=6) as packed:
            for line in lines:
                packed.write(encode(line) + "\n")
        file.seek(0)
        digest = _digest(file)
        file.seek(0)
        name = storage().save(name, File(file))
    said = f"{digest}  {name.rpartition('/')[2]}\n"
    storage().save(name + CHECKSUM, ContentFile(said.encode()))
    check(name)
    return name


def check(name: str) -> None:
    """Compare an archive with its checksum.

    :raises ArchiveError: if they do not fit, or there is no checksum.
    """
    if not storage().exists(name + CHECKSUM):
        raise ArchiveError(f"{name} has no checksum.")
    with storage().open(name + CHECKSUM) as file:
        said = file.read().decode("ascii", "replace").split()
    with storage().open(name) as file:
        if said[:1] != [_digest(file)]:
            raise ArchiveError(f"{name} does not fit its checksum.")


def names() -> list[str]:
    """Return the names of all archives."""
    try:
        _, files = storage().listdir(FOLDER)
    except FileNotFoundError:
        return []
    return sorted(f"{FOLDER}/{name}" for name in files if name.endswith(ENDING))


def read(name: str) -> Iterator[Line]:
    """Yield the lines of an archive."""
    with storage().open(name) as file, gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def remove(name: str) -> None:
    """Delete an archive and its checksum."""
    storage().delete(name)
    storage().delete(name + CHECKSUM)


def lines_of(ids: Sequence[int]) -> Iterator[Line]:
    """Yield a line for each transmission of messages, and for each message without any."""
    columns = {**export.COLUMNS, "fields": "message__fields"}
    keys = iter(ids)
    while some := list(islice(keys, CHUNK)):
        alone = set(some)
        rows = Transmission.objects.filter(among(some, "message")).order_by()
        for values in rows.values_list(*columns.values()).iterator(CHUNK):
            line = dict(zip(columns, values, strict=True))
            alone.discard(line["message"])
            line["direction"] = Direction(line["direction"]).label
            line["status"] = in_words(line["status"], retrying=False)
            yield line
        for message in Message.objects.filter(pk__in=alone).order_by("pk"):
            yield {
                "message": message.pk,
                "reply_to": message.in_response_to_id,
                "date": message.date,
                "direction": Direction(message.direction).label,
                "text": message.text,
                "status": message.state,
                "error": message.error,
                "fields": message.fields,
            }


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
