"""Machines of their own, played by network namespaces, and servers that they can reach."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.storms.servers import PostgreSQL, Redis

#: Networks for benchmarks (RFC 2544): one link takes four addresses.
NETWORK = "198.18.{link}.{end}"
#: The address of the servers: this machine's end of the first link.
SERVERS = NETWORK.format(link=0, end=1)
WIDTH = 30


class ReachablePostgreSQL(PostgreSQL):
    """A database server that other machines reach."""

    address = "127.0.0.1"

    def install(self) -> None:
        options = "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"
        self.run("initdb", "--pgdata=data", *options)
        with (self.folder / "data/pg_hba.conf").open("a") as file:
            file.write("host all all 198.18.0.0/15 trust\n")

    def command(self) -> list[str]:
        command = super().command()
        command[command.index("127.0.0.1")] = f"127.0.0.1,{self.address}"
        return command


class ReachableRedis(Redis):
    """A broker that other machines reach."""

    address = "127.0.0.1"

    def command(self) -> list[str]:
        command = super().command()
        place = command.index("127.0.0.1")
        command[place : place + 1] = sorted({"127.0.0.1", self.address})
        return [*command, "--protected-mode", "no"]


@dataclass(frozen=True)
class Machines:
    """Where workers run, and what they find there.

    :param address: where the servers are.
    :param prefixes: what a command on each machine begins with.
    :param servers: the environment that says where the database and the broker are.
    :param why_not: why all is on one machine; an empty string if it is not.
    """

    address: str
    prefixes: tuple[tuple[str, ...], ...]
    servers: dict[str, str]
    why_not: str


def no_machines() -> str:
    """Return what is not installed of the servers' programs."""
    missing = [*ReachablePostgreSQL.missing(), *ReachableRedis.missing()]
    return ", ".join(f"{program} is not installed" for program in missing)


@contextmanager
def machines(count: int) -> Iterator[Machines]:
    """Make so many machines, and start servers beside them; have none of it left afterwards."""
    with ExitStack() as stack:
        prefixes: list[tuple[str, ...]] = []
        why_not = ""
        try:
            for number in range(count):
                name = f"benchmark-{os.getpid()}-{number}"
                stack.callback(forget, name)
                prefixes.append(machine(name, number))
        except (OSError, subprocess.CalledProcessError) as err:
            said = getattr(err, "stderr", "") or str(err)
            why_not, prefixes = " ".join(said.split()), [()] * count
        address = "127.0.0.1" if why_not else SERVERS
        database, broker = ReachablePostgreSQL(), ReachableRedis()
        for server in (database, broker):
            stack.callback(server.remove)
            server.address = address
            server.install()
            server.start()
        where = {
            "PGHOST": address,
            "PGPORT": str(database.port),
            "PGUSER": "postgres",
            "PGPASSWORD": "",
            "REDIS_URL": f"redis://{address}:{broker.port}/0",
        }
        yield Machines(address, tuple(prefixes), where, why_not)


def machine(name: str, number: int) -> tuple[str, ...]:
    """Make a namespace with a link to this machine; return what begins a command there."""
    here, there = (NETWORK.format(link=number, end=end) for end in (1, 2))
    link = f"bench{os.getpid() % 100_000}x{number}"
    inside = ("ip", "netns", "exec", name)
    ip("netns", "add", name)
    ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("address", "add", f"{here}/{WIDTH}", "dev", link)
    ip("link", "set", link, "up")
    ip("-n", name, "address", "add", f"{there}/{WIDTH}", "dev", "eth0")
    ip("-n", name, "link", "set", "eth0", "up")
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "route", "add", "default", "via", here)
    return inside


def forget(name: str) -> None:
    """Remove a namespace, and its link with it, if there is one."""
    with suppress(OSError, subprocess.CalledProcessError):
        ip("netns", "delete", name)


def ip(*arguments: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
