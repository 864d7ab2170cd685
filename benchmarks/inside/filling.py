"""What is in the tables before anything is measured."""

from __future__ import annotations

from rapidsms.models import Backend, Connection

from benchmarks.inside import Message, Transmission, execute, function, insert

#: Transmissions of one of the old messages.
OLD_BATCH = 1000
#: Connections at the other gateway.
OTHERS = 1000


@function
def fill(connections: int, old_rows: int) -> None:
    """Store connections, and transmissions that were sent a year ago."""
    gateway = Backend.objects.create(name="gateway")
    other = Backend.objects.create(name="other")
    # rows that refer to what is there need no checks
    execute("SET session_replication_role = replica")
    moments = dict.fromkeys(("created_on", "modified_on"), "now()")
    for backend, count, prefix in ((gateway, connections, "+4"), (other, OTHERS, "+5")):
        numbers = f"FROM generate_series(1, {count}) AS number"
        identity = f"'{prefix}' || lpad(number::text, 9, '0')"
        execute(
            insert(Connection, numbers, backend_id=str(backend.pk), identity=identity, **moments)
        )
    sent = {
        "status": "'S'",
        **dict.fromkeys(("date", "updated", "sent"), "now() - '1 year'::interval"),
    }
    messages = f"FROM generate_series(1, {old_rows // OLD_BATCH}) AS number"
    execute(insert(Message, messages, direction="'O'", text="'old'", **sent))
    rows = f"FROM {Message._meta.db_table} m, generate_series(1, {OLD_BATCH}) AS number"
    # every connection has its share of them, and no message has one twice
    whom = f"1 + (m.id * {OLD_BATCH} + number) % {connections}"
    execute(insert(Transmission, rows, message_id="m.id", connection_id=whom, **sent))
    execute("RESET session_replication_role")
    execute("VACUUM ANALYZE")
