"""The command that shows runs under way in a browser."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trueup.commands.options import say
from trueup.commands.serve import Port, listening_at, run_until_stopped
from trueup.errors import TrueupError, counted


def watch(
    *runs: Path,
    port: Port = 8100,
    open_page: Annotated[bool, Parameter(name="--open", negative="")] = False,
    once: Path | None = None,
) -> None:
    """Show runs under way in a browser: curves, held-out numbers, samples, time left, over one another.

    It reads the files that runs write, changes none, and listens on 127.0.0.1 alone. Ctrl-C ends it, no run.
    It needs the extra trueup[serving], but for --once.

    Parameters
    ----------
    runs
        Folders of runs, recipes or comparisons, begun or not.
    port
        Where it listens; 0 is any free port.
    open_page
        Open the page in this machine's browser.
    once
        Write the page as it is now to this file, and end.
    """
    if not runs:
        raise TrueupError(
            "E862", "no run is named", where="watch", remedy="`trueup watch RUN`, the folder that --out named"
        )
    for folder in runs:
        if folder.exists() and not folder.is_dir():
            raise TrueupError(
                "E863", "not a folder", where=str(folder), remedy="name the folder of the run that it lies in"
            )
    from trueup.watching.page import Watch, write_once

    if once is not None:
        return say(f"page: {write_once(runs, once)}")
    from trueup.watching.server import Site, make_server

    server = make_server(Site(Watch(runs)))
    place = listening_at(port)
    url = f"http://127.0.0.1:{place.getsockname()[1]}/"
    say(f"watching {counted(len(runs), 'run')} at {url} (Ctrl-C ends it)")
    if open_page:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    run_until_stopped(server, place, "stopped watching; what was watched goes on by itself")
