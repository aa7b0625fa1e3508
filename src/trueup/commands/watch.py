"""The command that shows runs under way in a browser."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trueup.commands.options import say
from trueup.commands.serve import Port, listening_at, run_until_stopped
from trueup.errors import counted


def watch(
    run: Path,
    /,
    *more: Path,
    port: Port = 8100,
    open_page: Annotated[bool, Parameter(name="--open", negative="")] = False,
    once: Path | None = None,
) -> None:
    """Show runs under way in a browser: curves, held-out numbers, samples, time left, over one another.

    It reads the files that runs write, changes none, and listens on 127.0.0.1 alone. Ctrl-C ends it, no run.
    It needs the extra trueup[serving], but for --once.

    Parameters
    ----------
    run
        The folder of a run, a recipe or a comparison, begun or not.
    more
        Further ones, drawn over it.
    port
        Where it listens; 0 is any free port.
    open_page
        Open the page in this machine's browser.
    once
        Write the page as it is now to this file, and end.
    """
    from trueup.watching.page import Watch

    watched = Watch((run, *more))
    if once is not None:
        return say(f"page: {watched.write(once)}")
    from trueup.watching.server import Site, make_server

    server = make_server(Site(watched))
    place = listening_at(port)
    url = f"http://127.0.0.1:{place.getsockname()[1]}/"
    say(f"watching {counted(1 + len(more), 'run')} at {url} (Ctrl-C ends it)")
    if open_page:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    run_until_stopped(server, place, "stopped watching; what was watched goes on by itself")
