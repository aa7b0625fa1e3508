"""The same statements on PostgreSQL: each task by exactly as many people, and the same rows out."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collecting.people_at_work import crowd, filled, works
from trueup.answerers.door import listen
from trueup.collecting.exports import exported_rows

# Debian keeps a server's programs off the PATH, by version.
DEBIAN = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
PLACES = os.pathsep.join([os.environ.get("PATH", ""), *reversed(DEBIAN)])
INITDB, CONTROL = (shutil.which(name, path=PLACES) for name in ("initdb", "pg_ctl"))
pytestmark = [
    pytest.mark.slow,  # a database server is set up and started
    # A server comes with the system, not with pip.
    pytest.mark.skipif(
        not (INITDB and CONTROL),
        reason="no initdb and pg_ctl on the PATH or in Debian's place: apt install postgresql",
    ),
]


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a server of our own. PostgreSQL refuses to run as root: then it is `postgres`."""
    with tempfile.TemporaryDirectory() as folder:
        with listen() as free:
            port = free.getsockname()[1]
        as_root = os.getuid() == 0
        if as_root:
            try:
                shutil.chown(folder, "postgres")
            except LookupError:
                # PostgreSQL refuses to run as root, and there is nobody else to run it as.
                pytest.skip("there is no user postgres, and root may not run it")
        who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if as_root else []
        data = f"{folder}/data"
        start = ["-o", f"-k {folder} -p {port} -c listen_addresses=127.0.0.1", "-l", f"{folder}/log", "-w"]
        subprocess.run(
            [*who, str(INITDB), "-D", data, "-A", "trust", "-U", "me"], check=True, capture_output=True
        )
        subprocess.run(
            [*who, str(CONTROL), "-D", data, *start, "start"], check=True, stdout=subprocess.DEVNULL
        )
        try:
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            stop = [str(CONTROL), "-D", data, "-m", "fast", "stop"]
            subprocess.run([*who, *stop], check=True, capture_output=True)


def test_each_task_has_exactly_three_people_on_postgresql(database: str, tmp_path: Path) -> None:
    store = filled(tmp_path, 20, 3, database)
    people = crowd(store, 6)
    for shift in range(20):
        at = float(shift * 120)
        threads = [threading.Thread(target=works, args=(store, who, lambda at=at: at)) for who in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows, _ = exported_rows(store)
    store.close()
    assert len(rows) == 20
    for row in rows:
        assert len({said["labeler"] for said in row["comparisons"]}) == len(row["comparisons"]) == 3
