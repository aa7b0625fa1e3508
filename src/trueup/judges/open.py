"""A judge from what a person writes in a configuration: a name, a model folder, a function in a file."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import traceback
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.judges.endpoint import open_endpoint
from trueup.judges.function import FunctionJudge
from trueup.judges.identity import imported
from trueup.judges.rules import open_rule
from trueup.judges.toxicity import open_toxicity
from trueup.judges.weighted import open_weighted
from trueup.settings.held import FUNCTION, held
from trueup.settings.weights import model_folder
from trueup.worlds import World, door_of, open_world

if TYPE_CHECKING:
    from trueup.engine.method import HeadName
    from trueup.models.forward import LanguageModel
    from trueup.models.shared import Base

logger = logging.getLogger("trueup")
Grade = Callable[[Group, str], Mapping[str, Any]]
"(prompt, completion's text) to the numbers that a world's truth gives it."


def open_judge(
    ref: str,
    *,
    device: str = "cpu",
    microbatch_tokens: int = 4096,
    template: str | None = None,
    base: Base | None = None,
    decode: Callable[[np.ndarray], str] | None = None,
) -> Judge:
    """The judge that `ref` names.

    `WORLD:NAME`                  a judge of a world: `FILE.yaml:NAME`, or `world:truth`, the one it believes
    `rule:NAME?option=value`      a rule: `length`, `matches`, `exact`, `tests`
    `toxicity:NAME`, a .safetensors file: 1 − p(toxic) by `lexicon`, `detoxify`, a world, or a classifier
    `lm:MODEL`, `lm:openai:URL`   a language model that grades; options follow `#`
    `FILE.py:NAME`                a Python function, called as its signature asks (`calling`); the file is run
    `python:MODULE:NAME`          a function of this session, or of a module that can be imported
    `http://`, `https://`         a server that scores
    `FILE.yaml?name=value`        a weighted sum of judges; the value stands for `$name`, or weighs that part
    a folder                      a reward model or embedder, with its own tokenizer (`template` overrides)
    a folder, `?score=min` ...    a process reward model; `judges.stepwise.Reading` has its options

    A function reads completions that call tools by `decode`, where it is given. A reward model that is a LoRA
    adapter trained on the weights of `base` scores over those, in their dtype.

    Raises E792 for a reference that is none of these, E796 for a wrong weighted sum, E801 for a missing file
    or folder, E834 for a model without a reward head.
    """
    again = partial(
        open_judge,
        device=device,
        microbatch_tokens=microbatch_tokens,
        template=template,
        base=base,
        decode=decode,
    )
    if door_of(ref) is not None:
        found = behind(ref)
        return again(found) if isinstance(found, str) else found
    if ref.startswith("rule:"):
        return open_rule(ref)
    if ref.startswith("toxicity:") or ref.endswith(".safetensors"):
        return open_toxicity(ref, device=device)
    if ref.startswith("lm:"):
        # Imported here: it may bring a model's code with it.
        from trueup.judges.language_model import open_pointwise

        return open_pointwise(ref)
    if ref.startswith(("http://", "https://")):
        return open_endpoint(ref)
    if ref.partition("?")[0].endswith((".yaml", ".yml")):
        return open_weighted(ref, again)
    function = _function(ref)
    if function is not None:
        return FunctionJudge.of(function, ref, decode)
    if not ref:
        raise TrueupError(
            "E792",
            f"no judge {ref!r}",
            where="judge",
            remedy="use world:truth, rule:NAME, a reward model's folder, FILE.py:NAME, FILE.yaml or http://...",
        )
    return _reward_model(ref, device, microbatch_tokens, template, base)


def behind(ref: str) -> Any:
    """The judge, or the reference that is no door, to which a reference leads. E761 where doors go round."""
    seen: list[str] = []
    found: Any = ref
    while isinstance(found, str) and (door := door_of(found)) is not None:
        if found in seen:
            raise TrueupError("E761", "this judge leads back to itself", where=ref, remedy="name a judge")
        seen.append(found)
        world = open_world(door.world)
        found = world.judge(world.believed() if door.name == "truth" else door.name)
    return found


def open_measures(
    world: World, *, device: str = "cpu", without: Collection[str] = ()
) -> tuple[Grade | None, dict[str, Judge]]:
    """What completions are measured by in a world: the grade of its truth, and its judges by name.

    A truth that gives one number is the judge `gold`, beside itself under its own name; without a truth there
    is no gold. `without` are judges that give no number.
    """
    names = tuple(name for name in world.judges if name not in without)
    truth = world.believed() if world.believes else ""
    grade = world.grade(truth) if truth else None
    if grade is not None:
        names = tuple(name for name in names if name != truth)
    judges = {name: open_judge(f"{world.name}:{name}", device=device) for name in names}
    return grade, ({"gold": judges[truth]} if truth in judges else {}) | judges


def _function(ref: str) -> Callable[..., Any] | None:
    """The function that `python:MODULE:NAME` or `FILE.py:NAME` names; None for another reference."""
    if ref.startswith(FUNCTION):
        return held(ref) or imported(ref)
    file, colon, name = ref.rpartition(":")
    return _function_in(Path(file), name) if colon and file.endswith(".py") else None


def _function_in(path: Path, name: str) -> Callable[..., Any]:
    where = f"{path}:{name}"
    if not path.is_file():
        raise TrueupError("E801", "no such file", where=where, remedy="give FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(f"trueup_judge_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A person's own file: whatever it raises is theirs to repair.
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.origin]
        raise TrueupError(
            "E792",
            f"the file does not run: {type(error).__name__} {error}",
            where=f"{path}:{lines[-1]}" if lines else where,
            remedy="repair it",
        ) from error
    found: Any = vars(module).get(name)
    if not callable(found):
        defined = [n for n, value in vars(module).items() if inspect.isfunction(value) and n[0] != "_"]
        raise TrueupError(
            "E792",
            f"no function {name!r} in the file",
            where=where,
            remedy=f"one of {', '.join(defined)}" if defined else "name a function that it defines",
        )
    return found


def _reward_model(
    ref: str, device: str, microbatch_tokens: int, template: str | None, base: Base | None
) -> Judge:
    # Imported here: the other judges need no torch.
    from trueup.chat.encoder import Chat
    from trueup.judges.embedding import EmbeddingJudge
    from trueup.judges.reward_model import RewardModelJudge
    from trueup.judges.stepwise import StepwiseJudge, reading

    folder, query, output = _scorer(ref)
    steps = reading(query, f"judge {ref}") if output == "values" else None
    network = _network(folder, output, device, base if output != "embeddings" else None)
    chat = Chat.of(network.tokenizer, template)
    reader = RewardModelJudge(network=network, chat=chat, device=device, microbatch_tokens=microbatch_tokens)
    if output == "embeddings":
        return EmbeddingJudge(reader=reader)
    return reader if steps is None else StepwiseJudge(reader=reader, reading=steps)


def _scorer(ref: str) -> tuple[str, str, HeadName]:
    """The folder that a reference names, the options behind it, and the head whose scores it holds."""
    from trueup.models.heads import MODULES, RECORD

    folder, _, query = (ref, "", "") if Path(ref).is_dir() else ref.partition("?")
    folder = model_folder(folder)
    if not Path(folder).is_dir():
        raise TrueupError("E801", "no such folder", where=f"judge {ref}", remedy="name a reward model's")
    record = Path(folder) / RECORD
    held = record.read_text(encoding="utf-8") if record.is_file() else ""
    known: tuple[HeadName, ...] = ("embeddings", "rewards", "values")
    outputs: list[HeadName] = [name for name in known if MODULES[name] in held]
    if not outputs:
        raise TrueupError(
            "E834",
            "the model in this folder has no reward head, so its scores would be noise",
            where=f"judge {ref}",
            remedy="train one with the method reward_model, and name its folder",
        )
    if query and outputs[0] != "values":
        raise TrueupError(
            "E792", "this model's score has no options", where=f"judge {ref}", remedy=f"write {folder}"
        )
    return folder, query, outputs[0]


def _network(folder: str, output: HeadName, device: str, base: Base | None) -> LanguageModel:
    """The network with that head: an adapter over the policy's base where it is one, else a copy."""
    from trueup.models.load import load, refuse_unfit

    adapter = base.adapter(folder, (output,)) if base is not None else None
    if base is not None and adapter is not None:
        return base.network(heads=(output,), adapter=adapter)
    if base is not None:
        logger.warning("the judge %s is no adapter on the policy's base: a copy of its own", folder)
    network = load(folder, device=device, heads=(output,))
    refuse_unfit(network, folder)
    return network
