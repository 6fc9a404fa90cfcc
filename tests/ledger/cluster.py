"""A PostgreSQL server of a test's own, to stop, kill, start anew and copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.ledger.redis_process import free_port

_SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 40
shared_buffers = 16MB
"""


class Cluster:
    """A server on a port of its own, with its files in `folder`, run by `postgres` where the tests run as root."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._data = folder / f"data-{self.port}"

    def make(self) -> None:
        """A new server without anything, running."""
        self._do("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"{_SETTINGS}port = {self.port}\nunix_socket_directories = '{self._folder}'\n")
        self.start()

    def standby(self) -> Cluster:
        """A server that follows this one, running, and takes no writes."""
        copy = Cluster(self._folder)
        base = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        self._do("pg_basebackup", *base, "-D", str(copy._data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        with (copy._data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {copy.port}\n")
        copy.start()
        return copy

    def start(self) -> None:
        self._control("start", "-l", str(self._folder / f"log-{self.port}"))

    def stop(self, how: str) -> None:
        """`fast` ends the sessions and writes everything; `immediate` is a crash."""
        self._control("stop", "-m", how)

    def promote(self) -> None:
        self._control("promote")

    def caught_up(self, other: Cluster) -> bool:
        """Whether `other`, which follows this one, has everything."""
        with self.connect() as here, other.connect() as there:
            wanted = here.execute("SELECT pg_current_wal_lsn()::text").fetchone()
            found = there.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", wanted).fetchone()
        return found == (True,)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True)

    def url(self, *others: Cluster) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in (self, *others))
        return f"postgresql://postgres@{hosts}/postgres?schema=fence&timeout=5s"

    def clear(self) -> None:
        with self.connect() as connection:
            connection.execute("DROP SCHEMA IF EXISTS fence CASCADE")

    @property
    def runs(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    def _control(self, *arguments: str) -> None:
        self._do("pg_ctl", "-D", str(self._data), "-w", "-t", "60", *arguments)

    def _do(self, program: str, *arguments: str) -> None:
        path = max(Path("/usr/lib/postgresql").glob("*/bin")) / program
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        user = "postgres" if os.geteuid() == 0 else None
        log = (self._folder / f"{program}.out").open("ab")
        with log:
            done = subprocess.run(
                [str(path), *arguments],
                check=False,
                env=environment,
                user=user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        assert done.returncode == 0, (self._folder / f"{program}.out").read_text()[-2000:]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server, gone with everything that followed it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="afm-cluster-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        made = Cluster(folder)
        made.make()
        yield made
    finally:
        for data in folder.glob("data-*/postmaster.pid"):
            one = Cluster(folder)
            one._data = data.parent
            one.stop("immediate")
        shutil.rmtree(folder)
