"""Where jobs are to run: what `--cluster` says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from trueup.errors import TrueupError

FORMS = "slurm, 'slurm:SBATCH OPTIONS', ray:local, ray:auto or ray:ADDRESS"
AMOUNTS = ("--cpus", "--gpus")
"What a job of a Ray cluster may ask for."


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where runs are to be made: `kind` is "" for this machine, "slurm" or "ray"."""

    kind: str = ""
    address: str = ""
    "Of a Ray cluster; `local` makes one of this machine."
    options: tuple[str, ...] = ()
    "For `sbatch`."
    cpus: float | None = None
    gpus: float | None = None
    "That each job on a Ray cluster takes; None: a core, and a GPU where the cluster has any."


HERE = Cluster()


def read_cluster(text: str) -> Cluster:
    """What `--cluster` says. Raises E785 where it says nothing that is known."""
    kind, _, rest = text.strip().partition(":")
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise _unknown(text, f"its options cannot be told apart ({error})") from None
    if not text.strip():
        return HERE
    if kind == "slurm":
        stray = next((word for word in words[:1] if not word.startswith("-")), None)
        if stray is not None:
            raise _unknown(text, f"{stray!r} is no option of sbatch")
        return Cluster(kind=kind, options=tuple(words))
    if kind == "ray":
        return _ray(text, words)
    raise _unknown(text, f"{kind!r} is no kind of cluster")


def _ray(text: str, words: list[str]) -> Cluster:
    if not words or words[0].startswith("-"):
        raise _unknown(text, "it names no address")
    amounts: dict[str, float | None] = dict.fromkeys(AMOUNTS)
    for name, _, value in (word.partition("=") for word in _joined(words[1:])):
        if name not in AMOUNTS:
            raise _unknown(text, f"{name!r} is neither --cpus nor --gpus")
        try:
            amounts[name] = float(value)
        except ValueError:
            raise _unknown(text, f"{name} {value!r} is no number") from None
        if not 0 <= float(value) < float("inf"):
            raise _unknown(text, f"{name} {value} is no amount")
    return Cluster(kind="ray", address=words[0], cpus=amounts["--cpus"], gpus=amounts["--gpus"])


def _joined(words: list[str]) -> list[str]:
    """`--cpus 4` as `--cpus=4`."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in AMOUNTS:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _unknown(text: str, why: str) -> TrueupError:
    return TrueupError("E785", why, where=f"--cluster {text}", remedy=f"one of {FORMS}; without it, here")
