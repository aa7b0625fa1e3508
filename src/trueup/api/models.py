"""Models: `load` from a folder, an id or an object, and what a model can be asked."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from trueup.api import shown
from trueup.api.rows import Groups, Source, as_groups
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.method import Handles
from trueup.engine.method import Role as NetworkRole
from trueup.errors import TrueupError
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.settings import config as configuration
from trueup.settings.blocks import ModelSettings
from trueup.settings.held import OBJECT, holding

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trueup.judges import Judge
    from trueup.models.objects import InMemory

DType = Literal["float32", "bfloat16", "float64"]
MEMORY = f"{OBJECT}model"


@final
class Model:
    """A language model, or a reward model: a folder, an id, the lab's, or an object in memory.

    It prints as its folder and may stand wherever a path may. Its weights are loaded when they are needed.
    """

    def __init__(self, settings: ModelSettings, memory: InMemory | None = None) -> None:
        self._settings, self._memory = settings, memory

    @property
    def path(self) -> str:
        """Its folder or id; "" for an object in memory."""
        return "" if self._memory else self._settings.path

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self._memory.tokenizer if self._memory else self._network.tokenizer

    @property
    def transformers(self) -> PreTrainedModel:
        """The model as transformers has it: the object that was given, or what was loaded."""
        return cast("PreTrainedModel", self._memory.model) if self._memory else self._network.hf_model

    @property
    def settings(self) -> ModelSettings:
        """Its settings, as a run of it would have them."""
        return self._settings

    @property
    def num_parameters(self) -> int:
        """How many parameters it has, shared ones once."""
        if self._memory:
            return self._memory.num_parameters
        return sum(p.numel() for p in self._network.hf_model.parameters())

    def generate(
        self,
        prompts: str | Source,
        *,
        k: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 128,
        top_k: int | None = None,
        top_p: float | None = None,
        plain: bool = False,
        seed: int = 0,
    ) -> Groups:
        """The prompts, each with `k` completions of this model in place of any that they had.

        A text is one user's turn, or with `plain` a text to be continued; several are a list of them. A
        `temperature` of 0 is greedy. A sample depends on the seed, its prompt's place and its own alone.
        """
        from trueup.answerers import complete_groups
        from trueup.answerers.local import LocalAnswerer
        from trueup.sources.sample import Decoding

        asked = as_prompts(prompts, plain=plain)
        answerer = LocalAnswerer(
            name=str(self), network=self._network, chat=self._chat, device=self._network.device
        )
        decoding = Decoding(
            temperature=temperature or 1.0,
            greedy=temperature == 0,
            max_new_tokens=max_new_tokens,
            top_k=top_k,
            top_p=top_p,
        )
        drawn = complete_groups(asked, answerer, decoding=decoding, k=k, seed=seed)
        return Groups(groups=tuple(drawn), source=str(self))

    def logprobs(self, groups: Source) -> list[list[NDArray[np.float64]]]:
        """log π(token | what stands before it) of every token of each completion, end token included."""
        from trueup.annotate.logprobs import measure

        encoded = [self._chat.encode(_bare(group)) for group in as_groups(groups)]
        handles = Handles(networks={"model": self._network}, device=self._network.device)
        said = iter(measure(encoded, "model", "logprobs", handles).double().cpu().numpy())
        return [
            [np.asarray([next(said) for _ in range(c.num_supervised)]) for c in group.completions]
            for group in encoded
        ]

    def score(self, groups: Source) -> list[list[float]]:
        """The reward model's score of each completion of each group; E834 for a model without such a head."""
        return self._judge(as_groups(groups))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """An ordinary Hugging Face folder with weights and tokenizer. Raises E846 where one is.

        A `template` that was named is in it as the model's own.
        """
        from trueup.models.export import new_folder, refuse_other
        from trueup.models.load import save

        refuse_other(Path(path))
        own = {"tokenizer": self._chat.tokenizer} if self._settings.template else {}
        with new_folder(Path(path)) as staged:
            save(replace(self._network, **own), staged)
        return Path(path)

    def __fspath__(self) -> str:
        if not self.path:
            raise TrueupError(
                "E754",
                "this model is in memory, in no folder",
                where=str(self),
                remedy="save it: .save(path)",
            )
        return self.path

    def __str__(self) -> str:
        return f"{self._memory.kind} in memory" if self._memory else self.path

    def __repr__(self) -> str:
        return f"<trueup model {self}>"

    def _repr_html_(self) -> str:
        return shown.page(f"model {self}", [])

    @cached_property
    def _chat(self) -> Any:
        with self._held():
            return replace(open_chat(self._settings), option="template=NAME", folding="")

    @cached_property
    def _network(self) -> Any:
        device = pick_device(self._settings.device)
        with self._held():
            return open_network(NetworkRole(trained=False), self._settings, device, seed=0)

    @cached_property
    def _judge(self) -> Judge:
        from trueup.judges.open import open_judge

        if not self.path:
            raise TrueupError(
                "E834",
                "a model in memory has no reward head, so its scores would be noise",
                where=str(self),
                remedy="train one with the method reward_model, and load its folder",
            )
        device = str(pick_device(self._settings.device))
        return open_judge(self.path, device=device, template=self._settings.template)

    def _held(self) -> Any:
        return holding({self._settings.path: self._memory} if self._memory else {})


GivenModel: TypeAlias = "str | os.PathLike[str] | Model | PreTrainedModel | PeftModel"
"A model as functions take it: a folder, an id, a run's folder, an object."


def load(
    model: GivenModel = "world:base",
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    dtype: DType | None = None,
    device: str = "auto",
    template: str | None = None,
) -> Model:
    """The model in a folder or of an id, of a run's folder, or around a model of transformers or peft.

    An object needs its `tokenizer`; it is read and never changed, and what is frozen shares its weights. An
    adapter of peft is merged into a copy of its base. `dtype` is float32 for what is loaded and its own for
    an object; `template` names a chat template where the model brings none. Raises E801 for a missing
    folder, E802 or E803 for unusable weights, E754 for an object that cannot be used.
    """
    if isinstance(model, Model) and dtype is None and template is None:
        return model
    settings = {"device": device, "template": template}
    memory = in_memory(model, tokenizer)
    if memory is not None:
        settings |= {"path": MEMORY, "dtype": dtype or memory.dtype}
        return Model(configuration.build(ModelSettings, settings, where="load"), memory)
    settings |= {"path": path_of(model), "dtype": dtype or "float32"}
    found = Model(configuration.build(ModelSettings, settings, where="load"))
    _ = found.tokenizer  # what is wrong with it is said here, not where it is first asked
    return found


def in_memory(model: object, tokenizer: Any) -> InMemory | None:
    """The object with its tokenizer; None for a path, an id, or a `Model` of one."""
    if isinstance(model, Model):
        return model._memory
    if isinstance(model, str | os.PathLike):
        return None
    from trueup.models.objects import InMemory

    return InMemory(model=cast("PreTrainedModel", model), tokenizer=tokenizer)


def path_of(model: Any) -> str:
    """The folder or id of a model that is no object; of a run's folder, the model's in it."""
    from trueup.evals.evaluation import model_folder

    return model_folder(os.fspath(model))


def as_prompts(prompts: str | Source, *, plain: bool) -> list[Group]:
    """Prompts as groups: a text is a user's turn, or plain text, what else there is is read as rows."""
    role = Role.TEXT if plain else Role.USER
    texts = [prompts] if isinstance(prompts, str) else prompts
    if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) for text in texts):
        return [
            Group(prompt=(Message(role, str(text)),), id=f"prompt:{n}") for n, text in enumerate(texts, 1)
        ]
    return as_groups(texts)


def _bare(group: Group) -> Group:
    """The group without ids that another tokenizer may have given it."""
    bare = [Completion(text=c.text, finished=c.finished, source=c.source) for c in group.completions]
    return replace(group, completions=tuple(bare), prompt_tokens=None)
