"""An answerer from what a person writes: a model's folder, or a server's address and its model's name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from trueup.answerers import Answerer
from trueup.answerers.addresses import check_literal, is_here
from trueup.answerers.cache import Cache, default_folder
from trueup.answerers.remote import Ledger, RemoteAnswerer
from trueup.answerers.transport import Pace, Transport
from trueup.errors import TrueupError
from trueup.settings.secret import bare, fault_of_address

if TYPE_CHECKING:
    from trueup.answerers.local import LocalAnswerer

SERVER = "openai:"
_OPTIONS: dict[str, type[str] | type[int] | type[float]] = {
    "model": str,
    "key": str,
    "concurrency": int,
    "timeout": float,
    "retries": int,
    "rate": float,
    "max_tokens": str,
    "cache": str,
    "prompt_price": float,
    "completion_price": float,
}


def open_answerer(
    ref: str, *, device: str = "auto", template: str | None = None, fold: bool = False
) -> Answerer:
    """The answerer that `ref` names.

    `openai:URL?model=NAME&...`   a server; other options are in docs/endpoints.md
    a folder, an id, `world:base`   a model in this process; `template` names its chat template, and with
                                    `fold` one that has no system turn gets those words before the question

    Raises E797 for a server that cannot be meant or asked safely, and what `load` raises for a model.
    """
    return open_server(ref) if ref.startswith(SERVER) else open_local(ref, device, template, fold=fold)


def open_server(ref: str) -> RemoteAnswerer:
    """The server of `openai:URL?model=NAME&option=value&...`; nothing is asked of it yet.

    The key is read from the environment variable that `key=` names, and stands nowhere else.
    """
    url, _, query = ref.removeprefix(SERVER).partition("?")
    if fault := fault_of_address(url):
        raise _refused(url, fault, "name a variable: &key=NAME")
    options = _options(url, query)
    parts = _parts(url)
    key = ""
    if name := options.get("key"):
        key = os.environ.get(name, "")
        if not key:
            raise _refused(url, "the variable that `key` names is not set", "export it, or leave key= out")
        if fault := key_fault(key, parts):
            raise _refused(url, *fault)
    kept = options.get("cache", "")
    return RemoteAnswerer(
        transport=Transport(
            url=url.rstrip("/"),
            key=key,
            timeout=options.get("timeout", Transport.timeout),
            retries=options.get("retries", Transport.retries),
            pace=Pace(options.get("rate")),
        ),
        model=options["model"],
        cache=Cache(None if kept == "off" else Path(kept) if kept else default_folder()),
        concurrency=options.get("concurrency", RemoteAnswerer.concurrency),
        max_tokens=options.get("max_tokens", RemoteAnswerer.max_tokens),
        ledger=Ledger((options.get("prompt_price", 0.0), options.get("completion_price", 0.0))),
    )


def key_fault(key: str, parts: SplitResult) -> tuple[str, str] | None:
    """Why a key may not be sent to an address, and what to do; None where it may."""
    if not (key.isascii() and key.isprintable()) or len(key) < 4:
        return "what the key's variable holds is no key", "set it to the key alone"
    if parts.scheme == "http" and not is_here(parts.hostname or ""):
        return "the key would travel unencrypted", "use https://, or give no key"
    return None


def _options(url: str, query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS or name in found:
            # A key may stand there in place of its variable's name.
            shown = repr(name) if re.fullmatch("[a-z_]{1,20}", name) else "of that name"
            raise _refused(url, f"no option {shown}, or twice", f"there are {', '.join(_OPTIONS)}")
        try:
            found[name] = _OPTIONS[name](text)
        except ValueError:
            raise _refused(url, f"{name} is no {_OPTIONS[name].__name__}", f"repair {name}=") from None
        low = {"retries": 0, "prompt_price": 0, "completion_price": 0}.get(name, 1e-9)
        if not isinstance(found[name], str) and not low <= found[name] < 1e9:
            raise _refused(url, f"{name} cannot be {text}", f"repair {name}=")
    if not found.get("model"):
        raise _refused(url, "no model is named", "write openai:http://HOST:PORT/v1?model=NAME")
    return found


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, known = None, False
    if parts and known and not parts.fragment:
        check_literal(parts.hostname or "")
        return parts
    raise _refused(url, "no such address", "write openai:http://HOST:PORT/v1?model=NAME")


def _refused(url: str, reason: str, remedy: str) -> TrueupError:
    # What follows the ? is never shown: a key may stand there.
    return TrueupError("E797", reason, where=f"{SERVER}{bare(url)}", remedy=remedy)


def open_local(
    ref: str, device: str = "auto", template: str | None = None, *, fold: bool = False
) -> LocalAnswerer:
    """The model in a folder, of an id, or of the lab, in this process."""
    # Imported here: a server needs no torch.
    from trueup.answerers.local import LocalAnswerer
    from trueup.models.opening import open_policy, pick_device
    from trueup.settings.blocks import ModelSettings

    system = "fold" if fold else "turn"
    settings = ModelSettings(path=ref, template=template, device=device, system=system)
    place = pick_device(device)
    chat, network = open_policy(settings, place)
    return LocalAnswerer(name=ref, network=network, chat=chat, device=place)
