"""How long a move takes: ``python -m benchmarks.moving_in postgres 10000000``.

It makes the tables of ``rapidsms.router.db`` with so many transmissions: a fifth are inbound, a
fifth are their replies, the rest are broadcasts to 100,000 people each. Then the command runs while
texts come in, and compares the tables; then the old router takes some more texts, and the command
runs again. Databases: ``sqlite``, ``postgres``, ``mariadb``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests import servers
from tests.acceptance.running import Project

PEOPLE = 100_000
#: Ten years, in seconds.
PERIOD = 300_000_000
BESIDE, AFTER = ({"DB_ROUTER_TEST_MOVE": when} for when in ("beside", "after"))
TEXT = "where is my result please " * 9
#: How an outbound transmission ended, and its message.
ENDED = "CASE WHEN i % 50 = 0 THEN 'E' WHEN i % 3 = 0 THEN 'D' ELSE 'S' END"

#: By database: numbers from 1 to {n} as ``i``; the moment {s} seconds after 2016; a number.
WORDS = {
    "postgres": (
        "generate_series(1, {n}) AS series (i)",
        "timestamptz '2016-01-01' + ({s}) * interval '1 second'",
        "'+25470' || (1000000 + i)",
    ),
    "mariadb": (
        "(SELECT seq AS i FROM seq_1_to_{n}) series",
        "DATE_ADD('2016-01-01', INTERVAL ({s}) SECOND)",
        "CONCAT('+25470', 1000000 + i)",
    ),
    "sqlite": (
        "(WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < {n})"
        " SELECT i FROM series) series",
        "datetime('2016-01-01', '+' || ({s}) || ' seconds')",
        "'+25470' || (1000000 + i)",
    ),
}
TABLES = "rapidsms_backend", "rapidsms_connection", "db_message", "db_transmission"
#: What a database is told after its tables were filled.
AFTERWARDS = {
    "postgres": (
        "ANALYZE {0}",
        "SELECT setval(pg_get_serial_sequence('{0}', 'id'), (SELECT MAX(id) FROM {0}))",
    ),
    "mariadb": ("ANALYZE TABLE {0}",),
    "sqlite": ("ANALYZE {0}",),
}
FILL = """
import django
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    for statement in {statements!r}:
        cursor.execute(statement)
"""
TELL = """
import django
django.setup()
from rapidsms_db_router.models import Message
from rapidsms_db_router.moving_in import keys
new = Message.objects.filter(pk__gt=keys.GAP)
numbers = sorted(int(text.split()[1]) for text in new.values_list("text", flat=True))
# texts are numbered; the process that received them may have died in the last
whole = numbers == list(range(len(numbers)))
print(len(numbers), "texts came in meanwhile,", "each once;" if whole else "NOT each once;")
print(Message.objects.count() - len(numbers), "messages are of old")
"""


def statements(database: str, transmissions: int) -> list[str]:
    """Return what fills the old tables; messages are as far apart in time as they can be."""
    series, moment, identity = WORDS[database]
    talks = transmissions // 5
    broadcasts = (transmissions - 2 * talks) // PEOPLE
    step = PERIOD // (2 * talks)

    def insert(table: str, count: int, **columns: str) -> str:
        selected = ", ".join(f"{value} AS {name}" for name, value in columns.items())
        names, source = ", ".join(columns), series.format(n=count)
        return f"INSERT INTO {table} ({names}) SELECT {selected} FROM {source}"

    def dated(key: str, *more: str) -> dict[str, str]:
        return dict.fromkeys(("date", "updated", *more), moment.format(s=f"({key}) * {step}"))

    def message(count: int, key: str, status: str, way: str, answers: str = "NULL") -> str:
        text = f"SUBSTR('{TEXT}', 1, 20 + (i * 7) % 180)"
        fixed = {"id": key, "status": status, "direction": f"'{way}'", "external_id": "''"}
        fixed |= {"text": text, "in_response_to_id": answers}
        return insert("db_message", count, **fixed, **dated(key))

    def row(count: int, key: str, of: str, to: str, status: str, *more: str) -> str:
        fixed = {"id": key, "message_id": of, "connection_id": to, "status": status}
        return insert("db_transmission", count, **fixed, **dated(of, *more))

    last, question, answer = 2 * talks, "2 * i - 1", "2 * i"
    person = f"i % {PEOPLE} + 1"
    known = dict.fromkeys(("created_on", "modified_on"), moment.format(s="0"))
    return [
        "INSERT INTO rapidsms_backend (id, name) VALUES (1, 'gateway')",
        insert("rapidsms_connection", PEOPLE, id="i", backend_id="1", identity=identity, **known),
        message(talks, question, "'R'", "I"),
        message(talks, answer, ENDED, "O", question),
        message(broadcasts, f"{last} + i", "'E'", "O"),
        row(talks, question, question, person, "'R'"),
        row(talks, answer, answer, person, ENDED, "sent"),
        *(
            row(PEOPLE, f"{last + n * PEOPLE} + i", f"{last + n + 1}", "i", ENDED, "sent")
            for n in range(broadcasts)
        ),
        *(each.format(table) for table in TABLES for each in AFTERWARDS[database]),
    ]


def run(project: Project, log: str, *arguments: str, **environment: str) -> float:
    """Run Python to its end, and print what it said; return how long it took, in seconds."""
    begun = time.monotonic()
    process = project.start(log, *arguments, **environment)
    process.wait(None)
    print(process.output(), flush=True)
    return time.monotonic() - begun


def main(database: str, transmissions: int) -> None:
    """Fill the old tables, move, and move again."""
    with tempfile.TemporaryDirectory(prefix="moving-in-") as folder:
        project = Project(
            Path(folder),
            database=database,
            broker=servers.BROKERS["redis"],
            package="project_that_moves",
        )
        try:
            project.create()
            filling = FILL.format(statements=statements(database, transmissions))
            print(f"filled in {run(project, 'fill', '-c', filling):.0f} s")
            project.manage("migrate", "--verbosity=0", **BESIDE)
            command = "manage.py", "import_router_db"
            texts = "manage.py", "act", "receive", "ping", "0", "10000000"
            others = project.start("texts", *texts, **AFTER)
            took = run(project, "import", *command, **AFTER)
            others.stop()
            print(f"moved and compared in {took:.0f} s")
            took = run(project, "import", *command, **AFTER)
            print(f"moved again, with nothing to do, in {took:.0f} s")
            run(project, "tell", "-c", TELL, **AFTER)
            # the way back, and in again
            run(project, "back", "manage.py", "act", "receive", "ping", "0", "1000")
            took = run(project, "import", *command, **AFTER)
            print(f"moved again, with 1,000 texts of the way back, in {took:.0f} s")
            run(project, "tell", "-c", TELL, **AFTER)
        finally:
            project.drop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
