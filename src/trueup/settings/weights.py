"""Where a model is: a folder, a run's folder, a GGUF file, or an id of the hub. Nothing is loaded."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from trueup.errors import TrueupError
from trueup.settings.hub import WITHIN, unanswered, use_cache, within
from trueup.settings.vetted import check_folder

CONFIGS = ("config.json", "adapter_config.json")
"A model's folder has one of these."
HEADS, SCORING = "trueup_heads.json", ("reward_head", "embedding_head")
"Beside a model that has heads, and the heads of one that scores."
_NAMED = re.compile(r"-[0-9a-f]{10}$")


def model_folder(reference: str) -> str:
    """The model that a path means: of a run's folder its `model/`, of a recipe's its best policy's."""
    inside = Path(reference) / "model"
    if holds_model(inside):
        return str(inside)
    found = None if holds_model(Path(reference)) else best_policy(Path(reference))
    return reference if found is None else str(found)


def best_policy(run: Path) -> Path | None:
    """The model of a recipe's run that gained most of the truth, else the last that writes; None without one.

    A model that scores, by a reward or an embedding head, is none.
    """
    done = sorted(run.glob("stages/*/DONE.json"), key=lambda path: path.stat().st_mtime)
    models = {_NAMED.sub("", d.parent.name): d.parent / "model" for d in done if writes(d.parent / "model")}
    summary = run / "summary.json"
    if summary.is_file():
        policies = json.loads(summary.read_text(encoding="utf-8")).get("policies", {})
        gold = {n: row["gold"]["mean"] for n, row in policies.items() if n in models and row.get("gold")}
        if gold:
            return models[max(gold, key=lambda name: gold[name])]
    return list(models.values())[-1] if models else None


def writes(folder: Path) -> bool:
    """Whether a folder has a model that writes text: not one that only scores it, with no LM head."""
    heads = folder / HEADS
    scores = heads.is_file() and any(word in heads.read_text(encoding="utf-8") for word in SCORING)
    return holds_model(folder) and (not scores or _has_lm_head(folder))


def _has_lm_head(folder: Path) -> bool:
    """Whether a model was saved with its LM head, by the class or the task that its configuration names."""
    said = "".join((folder / n).read_text(encoding="utf-8") for n in CONFIGS if (folder / n).is_file())
    return any(word in said for word in ("ForCausalLM", "LMHeadModel", '"CAUSAL_LM"'))


def check_writes(folder: str) -> None:
    """Nothing; raises E767 for a folder whose model only scores."""
    if holds_model(Path(folder)) and not writes(Path(folder)):
        raise TrueupError(
            "E767",
            "this model scores text and writes none",
            where=folder,
            remedy=f"name a policy's folder; this one is a judge: --judge {folder}",
        )


def check_model(reference: str) -> None:
    """Nothing; raises E801 where neither a folder nor the hub has such a model, E853 to E857 for its files.

    A command asks this before it imports what loads one, which takes seconds.
    """
    name = model_folder(reference)
    check_there(name)
    if Path(name).is_dir():
        if not holds_model(Path(name)):
            raise no_model(Path(name))
        check_folder(Path(name))


def check_there(name: str) -> None:
    """Nothing; raises E801 for what is no folder, and is neither cached nor on a hub that can be reached.

    A GGUF file is looked at too: E818 without the library that reads it, E819 for what cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        return
    if is_gguf(name):
        _check_gguf(path)
        return
    if path.exists():
        remedy = "name its folder; of single files, GGUF is read (its name ends in .gguf)"
        raise TrueupError("E801", "a file, and no folder with a model", where=name, remedy=remedy)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise TrueupError("E801", "no such folder", where=name, remedy="check the path")
    reason = _unreachable(name)
    if reason:
        raise TrueupError(
            "E801",
            f"no such folder, and no model of that id can be fetched: {reason}",
            where=name,
            remedy="check the path; an id needs a network the first time, or `hf download ID` before",
        )


def is_gguf(reference: str | Path) -> bool:
    """Whether a reference means a GGUF file, by its name."""
    return str(reference).lower().endswith(".gguf")


def _check_gguf(path: Path) -> None:
    """Nothing; raises E801, E818 or E819 where a GGUF file is not there, not readable here, or not whole."""
    if not path.is_file():
        raise TrueupError("E801", "no such file", where=str(path), remedy="check the path")
    with path.open("rb") as file:
        begins = file.read(4)
    if begins != b"GGUF":
        remedy = "copy it again, or give the Hugging Face folder"
        raise TrueupError("E819", f"no GGUF file: it begins with {begins!r}", where=str(path), remedy=remedy)
    if re.search(r"-\d{5}-of-(?!00001)\d{5}\.gguf$", path.name.lower()):
        remedy = "join the parts first: llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        raise TrueupError("E819", "one part of several", where=str(path), remedy=remedy)
    if importlib.util.find_spec("gguf") is None:
        raise TrueupError(
            "E818",
            "GGUF files are read with the package gguf, which is not installed",
            where=str(path),
            remedy="pip install 'trueup[gguf]'",
        )


def holds_model(folder: Path) -> bool:
    """Whether a folder has a model's config, or an adapter's."""
    return any((folder / name).is_file() for name in CONFIGS)


def no_model(folder: Path) -> TrueupError:
    """The error of a folder without a model; it names one further down, where there is one."""
    below = (folder / "model", *folder.glob("stages/*/model"), *folder.glob("*/model"))
    inside = sorted(filter(holds_model, below), key=lambda path: not writes(path))
    inside += sorted(folder.glob("*.gguf"))
    remedy = f"did you mean {inside[0]}?" if inside else "give a folder with a config.json"
    return TrueupError("E801", "no model in this folder", where=str(folder), remedy=remedy)


def _unreachable(name: str) -> str:
    """Why no model of an id can be had; "" where it was fetched before, which then does."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    try:
        cached = any(isinstance(try_to_load_from_cache(name, file), str) for file in CONFIGS)
        why = unanswered()
        if why and cached:
            use_cache()
        elif not why:
            within(lambda: get_hf_file_metadata(hf_hub_url(name, CONFIGS[0]), timeout=WITHIN))
        return "" if cached else why
    except EntryNotFoundError:  # a model without this file: an adapter's, or transformers says what is wrong
        return ""
    except Exception as error:  # the client's own, httpx's or httpx2's as its version has it, the system's
        return str(error).strip().splitlines()[0]
