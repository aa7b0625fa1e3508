"""The command that serves a model to OpenAI-compatible clients on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from trueup.commands.early import check_models
from trueup.commands.options import Speaker, Template, say
from trueup.errors import EXIT_PREEMPTED, TrueupError

if TYPE_CHECKING:
    import uvicorn

    from trueup.data.consented import Consented

Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lt=65536))]


def serve(
    model: Speaker,
    /,
    *,
    port: Port = 8000,
    name: str | None = None,
    device: str = "auto",
    template: Template = None,
    collect: Path | None = None,
    retain: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 90,
) -> None:
    """Serve a model on this machine to OpenAI-compatible clients: completions and chats, with log-probs.

    It listens on 127.0.0.1 alone and answers one request at a time. Ctrl-C ends it once those that came are
    answered, a second one at once. It needs the extra trueup[serving].

    Parameters
    ----------
    port
        Where it listens; 0 is any free port.
    name
        What clients call the model; the folder as it is written here otherwise.
    device
        cpu, cuda, mps, or auto.
    collect
        Keep here, as JSON lines, what is asked with the header `trueup-consent: yes`, personal data replaced;
        nothing of other requests, of answers, or of who asked.
    retain
        Days that `--collect` keeps a prompt.
    """
    for package in ("starlette", "uvicorn"):
        try:
            import_module(package)
        except ImportError:
            import_module("trueup.answerers.serve")  # raises E811, which names the extra
    check_models(model)
    from trueup.answerers.open import open_local
    from trueup.answerers.serve import make_server
    from trueup.answerers.service import service_of
    from trueup.settings.weights import check_writes, model_folder

    check_writes(model_folder(model))
    served = name or model
    service = service_of(open_local(model_folder(model), device, template), served)
    consented = _keeping(collect, retain)
    place = listening_at(port)
    say(f"serving openai:http://127.0.0.1:{place.getsockname()[1]}/v1?model={served}")
    server = make_server(service, consented=consented)
    run_until_stopped(server, place, "stopped")


def _keeping(collect: Path | None, retain: int) -> Consented | None:
    if collect is None:
        return None
    from trueup.data.consented import Consented

    kept = Consented(collect, retain)
    kept.watch()
    return kept


def listening_at(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket on the loopback address, or another one. Raises E964 where the system gives none."""
    from trueup.answerers.door import listen

    try:
        return listen(port, host)
    except OSError as error:
        raise TrueupError(
            "E964",
            f"cannot listen: {error.strerror}",
            where=f"port {port}",
            remedy="give another --port; 0 is any free one",
        ) from None


def run_until_stopped(server: uvicorn.Server, place: socket.socket, said: str) -> None:
    """Nothing; the server answers until Ctrl-C or SIGTERM, of which the first is told in a sentence."""
    try:
        server.run(sockets=[place])
    except KeyboardInterrupt as stop:
        if str(stop) == "SIGTERM":  # a supervisor is told that its own signal ended it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        say(said)
    if server.force_exit:
        # Asked twice: the thread on which the model writes would be waited for, and cannot be ended alone.
        sys.stdout.flush()
        os._exit(EXIT_PREEMPTED)
