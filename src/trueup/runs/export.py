"""A finished run's model as a folder for others: what the run's files say of it becomes the model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueup.citations import cite
from trueup.engine import disk, inputs
from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.reports.record import Interval, PolicyResult, read_run
from trueup.runs import meter
from trueup.runs.meter import Cost
from trueup.settings.discover import find
from trueup.settings.hub import unanswered
from trueup.settings.json_files import read_object
from trueup.settings.sealed import MANIFEST
from trueup.settings.strict_yaml import read_yaml
from trueup.settings.vetted import check_folder

LIBRARIES = ("trueup", "torch", "transformers", "peft", "safetensors")
"What every model card cites besides the method's papers."


def methods_of(run: Path) -> list[str]:
    """What the finished stages of a run were made by, in the order of their folders' names."""
    folders = sorted((run / "stages").iterdir()) if (run / "stages").is_dir() else [run]
    records = [_object(folder / "DONE.json") for folder in folders]
    return list(dict.fromkeys(str(record["method"]) for record in records if record.get("method")))


def references_of(methods: list[str]) -> list[str]:
    """The BibTeX keys that the methods name, then the libraries'."""
    keys = [key for method in methods for key in vars(find(method)).get("REFERENCES", ())]
    return list(dict.fromkeys((*keys, *LIBRARIES)))


def export_run(run: Path, out: Path, *, merged: bool = True) -> Path:
    """The new folder `out`: the model of a finished training run, or stage, and a card drawn from its files.

    `merged` adds a LoRA adapter into the weights; otherwise the folder is the run's own, adapter apart.
    Raises E847 for a run without a model, E846 when `out` exists and is not empty.
    """
    model = run / "model"
    if not (model / "config.json").is_file() and not (model / "adapter_config.json").is_file():
        raise TrueupError(
            "E847",
            "there is no finished model here",
            where=str(model),
            remedy="give the folder of a finished training run, or of one stage in RUN/stages",
        )
    from trueup.models.export import CARD, SCORERS, export, kind_of_folder, new_folder, refuse_other, render
    from trueup.models.load import load

    check_folder(model)
    card = facts_of(run, name=out.name)
    if merged and (model / "adapter_config.json").is_file():
        output = SCORERS.get(kind_of_folder(model), "logprobs")
        return export(load(model, heads=(output,)), out, card=card)
    refuse_other(out)
    with new_folder(out) as staged:
        # What others do with the folder is theirs: it has no manifest that would hold them to these bytes.
        shutil.copytree(model, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        disk.write(staged / CARD, render(card, kind_of_folder(model)))
    return out


def push(folder: Path, repository: str, *, private: bool) -> str:
    """The address of an exported folder on the Hugging Face hub; its repository is made where there is none.

    Raises E768 where the hub does not answer or refuses: a wrong id, no token, no right to write there.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    def not_pushed(why: str, first: str, to: str = repository) -> TrueupError:
        remedy = f"{first}, then `hf upload {to} {folder}`; the exported folder is whole"
        return TrueupError("E768", why, where=repository, remedy=remedy, exit_code=EXIT_UNAVAILABLE)

    if why := unanswered():
        offline = why.startswith("HF_HUB_OFFLINE")
        raise not_pushed(why, "`unset HF_HUB_OFFLINE`" if offline else "wait until it answers")
    client = huggingface_hub.HfApi(library_name="trueup")
    try:
        made = client.create_repo(repository, private=private, exist_ok=True)
        client.upload_folder(
            repo_id=made.repo_id, folder_path=str(folder), commit_message=f"{folder.name}, exported by trueup"
        )
    except HFValidationError as error:
        raise not_pushed(
            f"not pushed: {_first_line(error)}", "choose a name of that form", "OWNER/NAME"
        ) from None
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise not_pushed(f"not pushed: {_first_line(error)}", "`hf auth login`") from None
    return str(made)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def facts_of(run: Path, *, name: str) -> Any:
    """The `CardFacts` that the files of a training run state; what they do not say is left out."""
    from trueup.models.export import CardFacts

    methods = methods_of(run)
    method = methods[0] if methods else ""
    resolved = run / "config.resolved.yaml"
    settings = dict(read_yaml(resolved).values) if resolved.is_file() else {}
    spent = meter.last_cost(run / meter.TIMINGS)
    model = settings.get("model")
    base = str(model.get("path", "")) if isinstance(model, Mapping) else ""
    data = settings.get("data")
    source = {"source": _public(str(data["path"]))} if isinstance(data, Mapping) and "path" in data else {}
    policy = _measured(run)
    return CardFacts(
        name=name,
        method=Path(method).stem,
        summary=str(vars(find(method)).get("SUMMARY", "")) if method else "",
        base=_public(base),
        data={**source, **_object(run / "data.json"), **_given(run)},
        settings=_public_settings(settings),
        gold=_figure(policy.gold) if policy else None,
        proxy=_figure(Interval(policy.scores["proxy"])) if policy and "proxy" in policy.scores else None,
        kl=_figure(policy.kl) if policy else None,
        tax={exam: f for exam, value in policy.tax.items() if (f := _figure(value))} if policy else {},
        cost={key: float(value) for key, value in vars(spent).items()} if spent != Cost() else {},
        bibtex=cite(references_of(methods)),
    )


def _given(run: Path) -> dict[str, str]:
    """What a run cannot be repeated without, and what changed under it, a sentence for each such input."""
    found = [replace(item, what=_public(item.what)) for item in inputs.read(run)]
    said = {
        "not in the run's folder": inputs.missing(found),
        "changed while it was made": inputs.changes_told(found),
    }
    return {key: " ".join(sentences) for key, sentences in said.items() if sentences}


def _measured(run: Path) -> PolicyResult | None:
    """What an evaluation in the same recipe measured of this stage's model, found by the model's path."""
    top = run.resolve().parent.parent
    if run.resolve().parent.name != "stages" or not (top / "summary.json").is_file():
        return None
    recipe = read_yaml(top / "recipe.resolved.yaml").values
    names = {name for stage in recipe.values() for name, path in _policies(stage) if _is_of(path, run)}
    return next((policy for policy in read_run(top).policies if policy.name in names), None)


def _policies(stage: Any) -> Iterator[tuple[str, str]]:
    if isinstance(stage, Mapping) and isinstance(stage.get("policies"), Mapping):
        yield from ((str(name), str(path)) for name, path in stage["policies"].items())
        yield "sft", str(stage.get("sft", ""))


def _is_of(path: str, run: Path) -> bool:
    return run.resolve().name in Path(path).parts


def _figure(value: Interval | None) -> Any:
    from trueup.models.export import Figure

    return None if value is None else Figure(mean=value.mean, low=value.low, high=value.high)


def _public(text: str) -> str:
    """A hub id or reference as it is; of a path that exists on this machine, its last part alone."""
    return Path(text).name if Path(text).exists() or text.startswith("/") else text


def _public_settings(value: Any) -> Any:
    """The settings without this machine's folders: a card is read by others."""
    if isinstance(value, Mapping):
        return {str(key): _public_settings(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_public_settings(part) for part in value]
    return _public(value) if isinstance(value, str) and "/" in value else value


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or {} where there is none."""
    return read_object(path, remedy="remove the file, or run the stage again") if path.is_file() else {}
