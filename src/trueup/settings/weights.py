"""Where a model is: a folder, a run's folder, or an id of the hub. Looked at without loading anything."""

from __future__ import annotations

from pathlib import Path

from trueup.errors import TrueupError

CONFIGS = ("config.json", "adapter_config.json")
"A model's folder has one of these."


def model_folder(reference: str) -> str:
    """The model that a path means: of a run's folder its `model/`."""
    inside = Path(reference) / "model"
    return str(inside) if holds_model(inside) else reference


def check_model(reference: str) -> None:
    """Nothing; raises E801 where neither a folder nor the hub has such a model.

    A command asks this before it imports what loads one, which takes seconds.
    """
    name = model_folder(reference)
    check_there(name)
    if Path(name).is_dir() and not holds_model(Path(name)):
        raise no_model(Path(name))


def check_there(name: str) -> None:
    """Nothing; raises E801 for what is no folder, and is neither cached nor on a hub that can be reached."""
    path = Path(name)
    if path.is_dir():
        return
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise TrueupError("E801", "no such folder", where=name, remedy="check the path")
    reason = _unreachable(name)
    if reason:
        raise TrueupError(
            "E801",
            f"no such folder, and no model of that id can be fetched: {reason}",
            where=name,
            remedy="check the path; an id needs a network the first time",
        )


def holds_model(folder: Path) -> bool:
    """Whether a folder has a model's config, or an adapter's."""
    return any((folder / name).is_file() for name in CONFIGS)


def no_model(folder: Path) -> TrueupError:
    """The error of a folder without a model; it names one further down, where there is one."""
    inside = [p for p in (folder / "model", *folder.glob("stages/*/model")) if holds_model(p)]
    remedy = f"did you mean {inside[0]}?" if inside else "give a folder with a config.json"
    return TrueupError("E801", "no model in this folder", where=str(folder), remedy=remedy)


def _unreachable(name: str) -> str:
    """Why no model of an id can be had; its client would try an unknown host for a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        if not any(isinstance(try_to_load_from_cache(name, file), str) for file in CONFIGS):
            get_hf_file_metadata(hf_hub_url(name, CONFIGS[0]))
    except Exception as error:
        known = isinstance(error, HFValidationError | OfflineModeIsEnabled | RepositoryNotFoundError)
        # By its name: it comes from httpx or httpx2, as the hub client's version has it. Whatever else went
        # wrong (a model without this file) transformers says in its own words.
        if known or type(error).__name__ == "ConnectError":
            return str(error).strip().splitlines()[0]
    return ""
