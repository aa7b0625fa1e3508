"""The store of a project: one SQLite file, or a PostgreSQL database, and how it is read and written.

What was answered to a client stands on the disk before the answer goes. Writes come one at a time: SQLite's
`BEGIN IMMEDIATE` takes the lock as a transaction begins, a lock of PostgreSQL's does the same there; whoever
comes meanwhile waits. SQLite before 3.51.3 (but 3.50.7 and 3.44.6) can lose committed rows of a write-ahead
log that two connections write (https://sqlite.org/wal.html), so those versions keep a rollback journal.
"""

from __future__ import annotations

import datetime
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.event import listen as heed
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from trueup.collecting import schema
from trueup.engine import disk
from trueup.errors import TrueupError

PATIENCE = 30.0
"Seconds that a write waits for the others; each takes milliseconds."
TOGETHER = 64
"Writers that share a transaction, at most."
_MENDED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
_FAR = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.s3fs"}
"File systems on which SQLite's locks are not to be trusted (https://sqlite.org/howtocorrupt.html)."
_WRITES = "trueup_writes"
_ONE_WRITER = 7_361_842_901
"The number of PostgreSQL's lock that writers of a project take."


def journal_of(version: tuple[int, ...]) -> tuple[str, str]:
    """SQLite's `journal_mode` and `synchronous` for a version: what commits survives a power cut."""
    mended = version >= _MENDED[0] or any(version[:2] == v[:2] and version >= v for v in _MENDED[1:])
    return ("WAL", "FULL") if mended else ("DELETE", "EXTRA")


def now() -> str:
    """The time, in UTC, as everything here writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """An open store."""

    def __init__(self, place: str, *, make: bool = True) -> None:
        """Opens it, made and migrated where need be.

        `place` is a file, or `postgresql://...`. Raises E880 for one that cannot be opened, E881 for a file
        on a network, E882 for one of a later trueup.
        """
        self.place, self._turn, self._count = place, threading.Lock(), threading.Lock()
        self._batch: _Batch | None = None
        self._waiting = 0
        "Writers that are inside or before the turn."
        self.file = None if "://" in place else Path(place)
        if self.file is not None:
            _check_file(self.file, make)
        self._engine = _engine(place if self.file is None else f"sqlite:///{self.file.absolute()}")
        with self.write() as connection:
            self.version = schema.migrate(connection, now())
            fresh = {"secret": secrets.token_hex(32), "seed": str(secrets.randbits(62))}
            known = dict(connection.execute(sa.select(schema.setting.c.name, schema.setting.c.value)).all())
            for name in fresh.keys() - known.keys():
                connection.execute(schema.setting.insert().values(name=name, value=fresh[name]))
        self.secret = known.get("secret", fresh["secret"])
        self.seed = int(known.get("seed", fresh["seed"]))

    def close(self) -> None:
        """Nothing; its connections are closed."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Inside, one is alone in writing; what is raised undoes it. Behind it, it is on the disk.

        Those who wait meanwhile write in the same transaction, each in a savepoint of its own, and the last
        of them commits for all: a disk that takes its time to sync is waited for once. Raises E880.
        """
        with self._told():
            with self._count:
                self._waiting += 1
            with self._turn:
                try:
                    batch = self._batch = self._batch or _Batch(self._engine)
                    with batch.connection.begin_nested():
                        yield batch.connection
                finally:
                    self._leave()
            batch.wait()

    def _leave(self) -> None:
        """Nothing; where nobody waits for the turn, or enough have had it, the transaction ends."""
        with self._count:
            self._waiting -= 1
            last = not self._waiting
        if self._batch is None:
            return
        self._batch.size += 1
        if last or self._batch.size >= TOGETHER:
            batch, self._batch = self._batch, None
            batch.end()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Inside, the store as it was when the reading began."""
        with self._told(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if isinstance(error, IntegrityError):
                raise
            raise _unopened(self.place, str(error.orig)) from None

    def backup(self, out: Path) -> Path:
        """The path of a copy of the store as it is now, made while it is in use; SQLite's alone (E883)."""
        if self.file is None:
            raise TrueupError(
                "E883", "the store is PostgreSQL's", where="backup", remedy="back it up with `pg_dump`"
            )
        disk.make_folder(out.parent)
        with disk.whole(out) as staged:
            source, target = sqlite3.connect(self.file, timeout=PATIENCE), sqlite3.connect(staged)
            try:
                source.backup(target)
            finally:
                source.close()
                target.close()
        return out

    def fault(self) -> str:
        """What is wrong with the file by SQLite's own checks; "" where nothing is."""
        if self.file is None:
            return ""
        with self.read() as connection:
            said = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return "; ".join(
            [*(s for s in said if s != "ok"), *(f"a row of {d[0]} leads nowhere" for d in dangling)]
        )


class _Batch:
    """A transaction that several writers share, one after the other."""

    def __init__(self, engine: sa.Engine) -> None:
        self.connection = engine.connect().execution_options(**{_WRITES: True})
        self.size = 0
        self._ended = threading.Event()
        self._error: BaseException | None = None
        try:
            self._transaction = self.connection.begin()
        except BaseException:
            self.connection.close()
            raise

    def end(self) -> None:
        """Nothing; it is committed, or all its writers are told why not."""
        try:
            self._transaction.commit()
        except BaseException as error:
            self._error = error
        finally:
            self.connection.close()
            self._ended.set()

    def wait(self) -> None:
        """Nothing, once it is on the disk; raises what kept it from there."""
        self._ended.wait()
        if self._error is not None:
            raise self._error


def log(
    connection: sa.Connection,
    kind: str,
    person: int | None = None,
    task: int | None = None,
    body: Mapping[str, Any] | None = None,
) -> int:
    """The number of a new event at the log's end; what is in the log is never changed."""
    values = {"at": now(), "kind": kind, "person": person, "task": task, "body": plain(body or {})}
    return connection.execute(
        schema.event.insert().values(**values).returning(schema.event.c.seq)
    ).scalar_one()


def plain(value: Any) -> str:
    """A value as JSON text, the same for another order of keys."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)


def _engine(url: str) -> sa.Engine:
    try:
        sqlite = url.startswith("sqlite:")
        if not sqlite:
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        options: dict[str, Any] = (
            {"connect_args": {"timeout": PATIENCE}} if sqlite else {"pool_pre_ping": True}
        )
        engine = sa.create_engine(url, pool_size=8, max_overflow=56, **options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise _unopened(url.partition("@")[2] or url, str(error)) from None
    except ImportError as error:
        raise TrueupError(
            "E811",
            f"the package {error.name} is not installed",
            where="trueup collect",
            remedy="pip install 'trueup[postgres]'",
        ) from None
    if sqlite:
        heed(engine, "connect", _prepared)
    heed(engine, "begin", _begun_sqlite if sqlite else _begun_postgres)
    return engine


def _prepared(connection: Any, _: Any) -> None:
    """Nothing; a new connection of SQLite's keeps what it commits, and what refers to rows refers to some."""
    connection.isolation_level = None  # the driver begins no transaction by itself; `_begun_sqlite` does
    journal, synced = journal_of(sqlite3.sqlite_version_info)
    for statement in (f"journal_mode={journal}", f"synchronous={synced}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {statement}")


def _begun_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begun_postgres(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ONE_WRITER})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _check_file(file: Path, make: bool) -> None:
    """Nothing; raises E880 where no store can be, E881 on a network's file system."""
    if not make and not file.is_file():
        raise _unopened(str(file), "no such file")
    if not file.parent.is_dir():
        disk.make_folder(file.parent)
    if file.is_file():
        with file.open("rb") as opened:
            if opened.read(16) not in (b"", b"SQLite format 3\0"):
                raise _unopened(str(file), "it is no SQLite database")
    if (kind := _file_system(file.absolute())) in _FAR:
        raise TrueupError(
            "E881",
            f"on a network's file system ({kind}), where SQLite's locks are not to be trusted",
            where=str(file),
            remedy="put the store on a disk of this machine, or use `store: postgresql://...`",
        )


def _file_system(path: Path) -> str:
    """The kind of file system on which a path lies; "" where the system does not say."""
    try:
        rows = [line.split() for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    mounts = {row[4].replace("\\040", " "): row[row.index("-") + 1] for row in rows}
    real = path.resolve()
    return next((mounts[str(p)] for p in (real, *real.parents) if str(p) in mounts), "")


def _unopened(place: str, reason: str) -> TrueupError:
    if "locked" in reason:
        remedy = "another program holds the file locked; end it, and give the same command again"
    else:
        remedy = "check `store`: a file on this machine, or postgresql://USER@HOST/DATABASE"
    return TrueupError(
        "E880", f"the store cannot be used: {reason.splitlines()[0]}", where=place, remedy=remedy
    )
