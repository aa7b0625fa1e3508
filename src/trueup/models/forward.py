"""LanguageModel: a Hugging Face decoder with heads, called on a batch.

A call runs the body once over the packed row (or, for an architecture that cannot be packed, over the padded
sequences), then each head at the positions that need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Group
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import attention
from trueup.models.heads import MODULES
from trueup.models.layout import build, layout_of
from trueup.models.logprob import Head, listed_logprobs, logits, token_logprobs
from trueup.models.lora import has_adapter, wrapped
from trueup.models.parts import called
from trueup.models.prepacked import is_packed
from trueup.models.recompute import Policy, checkpointing

OUTPUTS = ("logprobs", "entropy", "values", "rewards", "embeddings", "distributions", "listed")
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6
"Divided by less, logits leave float32; divided by more, all tokens are alike."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """A decoder and its heads as a `trueup.engine.method.Network`.

    Copies made by `with_temperature` and `reference` share the module, and so the weights.
    """

    module: nn.ModuleDict
    "Holds `model` and the heads (`value_head`, `reward_head`, `embedding_head`) there are: every parameter."
    tokenizer: Any
    config: PretrainedConfig
    readout: tuple[float, float | None] = (1.0, None)
    "What the model does to its logits: a factor, and the bound of a soft cap."
    temperature: float = 1.0
    "Divides the logits wherever a log-probability is taken."
    packs: bool = True
    reason: str = ""
    "Why the padded path is taken; empty when packed."
    logits_budget_mib: float = 256
    activation_checkpointing: Policy = "none"
    "What the backward pass computes again, so that it need not be kept; see `recompute`."
    adapter: bool = True
    "Whether a LoRA adapter, if there is one, takes part."

    @property
    def hf_model(self) -> Any:
        """The Hugging Face model, LoRA layers included but without peft's wrapper."""
        model: Any = self.module["model"]
        return model.get_base_model() if wrapped(model) else model

    @property
    def body(self) -> nn.Module:
        """The decoder without its LM head."""
        return self.hf_model.base_model

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the body."""
        return next(self.body.parameters()).dtype

    @property
    def has_adapter(self) -> bool:
        """Whether the weights carry a LoRA adapter."""
        return wrapped(self.module["model"])

    @property
    def head(self) -> Head:
        """The LM head as log-probabilities need it. Raises E705 for a network that has none."""
        linear = self.hf_model.get_output_embeddings()
        if linear is None:
            raise TrueupError(
                "E705", "this network has no LM head", remedy='load it with heads=("logprobs",)'
            )
        scale, cap = self.readout
        beside = linear if has_adapter(linear) or is_packed(linear) else None
        return Head(linear.weight, getattr(linear, "bias", None), scale, cap, beside)

    def with_temperature(self, temperature: float) -> LanguageModel:
        """The same network with its log-probs at another temperature. Raises E702 for one out of range."""
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            reason = f"temperature must be {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}, not {temperature}"
            raise TrueupError("E702", reason, remedy="give one in that range")
        return replace(self, temperature=temperature)

    def reference(self) -> LanguageModel:
        """The same network with its LoRA adapter switched off: the model that training began from."""
        if not self.has_adapter:
            raise TrueupError(
                "E706",
                "only a network with a LoRA adapter is its own reference",
                remedy="use `copy_of(network)` before training",
            )
        return replace(self, adapter=False)

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """What is wanted of a batch: any of logprobs, entropy, values, rewards, embeddings,
        distributions, listed.

        `listed` is at the ids in the batch's column `listed_ids`; `top:K` gives the K likeliest ids as well.
        """
        unknown = sorted({w for w in want if not w.startswith("top:")} - set(OUTPUTS))
        if unknown:
            remedy = f"ask for {', '.join(OUTPUTS)}"
            raise TrueupError("E705", f"no network gives {', '.join(unknown)}", remedy=remedy)
        with self.as_called(), checkpointing(self.body, self.activation_checkpointing, self.as_called):
            return Outputs(**called(self.module, lambda: _given(self._said(batch, want))))

    def _said(self, batch: Batch, want: Sequence[str]) -> Outputs:
        apart = self._embeddings(batch) if "embeddings" in want else Outputs()
        if set(want) == {"embeddings"}:
            return apart
        states = self._states(batch)
        said = Outputs(
            **self._token_outputs(states, batch, want),
            values=self._module("values")(states.rows.index_select(0, states.at))
            if "values" in want
            else None,
            rewards=self._module("rewards")(states.rows.index_select(0, states.last))
            if "rewards" in want
            else None,
        )
        return said.merge(apart)

    def as_called(self) -> Any:
        """A context in which the adapter is on or off as this network says."""
        return _adapter_off(self.module) if self.has_adapter and not self.adapter else nullcontext()

    def next_logits(self, hidden: Tensor) -> Tensor:
        """Logits [R, V] of hidden states [R, d], divided by the temperature; float32 or wider."""
        return logits(hidden, self.head, self.temperature)

    def _states(self, batch: Batch) -> States:
        return packed_states(self.body, batch) if self.packs else padded_states(self.body, batch)

    def _embeddings(self, batch: Batch) -> Outputs:
        """f(x) and f(y), read at the last token of prompts and completions that see nothing else."""
        places = [s.prompt for s in batch.spans] + [c for s in batch.spans for c in s.completions]
        texts = [batch.tokens[start : start + length] for start, length in places]
        found = self._module("embeddings")(ends_alone(self.body, texts, packs=self.packs))
        return Outputs(prompt_embeddings=found[: batch.num_groups], embeddings=found[batch.num_groups :])

    def _module(self, name: str) -> nn.Module:
        key = MODULES[name]
        if key not in self.module:
            raise TrueupError(
                "E705", f"this network has no head for {name}", remedy=f'load it with heads=("{name}",)'
            )
        return self.module[key]

    def _token_outputs(self, states: States, batch: Batch, want: Sequence[str]) -> dict[str, Tensor | None]:
        found: dict[str, Tensor | None] = {}
        if "logprobs" in want or "entropy" in want:
            scored = token_logprobs(
                states.rows,
                states.at,
                batch.targets,
                self.head,
                temperature=self.temperature,
                budget_mib=self.logits_budget_mib,
                entropy="entropy" in want,
                picks=batch.picks if self.packs else None,
            )
            found["entropy"] = scored.entropy
            if "logprobs" in want:
                found["logprobs"] = scored.logprobs
        if "distributions" in want:
            picked = states.rows.index_select(0, states.at)
            found["distributions"] = torch.log_softmax(self.next_logits(picked), -1)
        top = [int(w.removeprefix("top:")) for w in want if w.startswith("top:")]
        if top or "listed" in want:
            listed = listed_logprobs(
                states.rows,
                states.at,
                top[0] if top else batch.columns["listed_ids"].long(),
                self.head,
                temperature=self.temperature,
                budget_mib=self.logits_budget_mib,
            )
            found["listed"], found["listed_ids"] = listed.logprobs, listed.ids
        return found


def _given(said: Outputs) -> dict[str, Tensor]:
    return {name: value for name, value in vars(said).items() if value is not None}


class States(NamedTuple):
    """Hidden states, and which row predicts each supervised token and which ends each completion."""

    rows: Tensor
    at: Tensor
    last: Tensor


def packed_states(body: nn.Module, batch: Batch) -> States:
    """Hidden states of the packed row [S, d]."""
    # With a mask of two dimensions, which is not looked at, transformers does not read the positions to find
    # out whether sequences are packed: the host would wait for the device.
    mask = torch.ones(1, batch.num_tokens, dtype=torch.bool, device=batch.tokens.device)
    with attention.attending(attention.Packing(layout_of(batch))):
        hidden = run(
            body, input_ids=batch.tokens[None], position_ids=batch.positions[None], attention_mask=mask
        )
    return States(hidden[0], batch.at, batch.last)


def run(body: nn.Module, **inputs: Tensor) -> Tensor:
    """The body's last hidden states [B, L, d]. Raises E504 when its tables do not reach that far."""
    try:
        return body(**inputs, use_cache=False).last_hidden_state
    except IndexError:
        raise _outside(body, inputs) from None


def _outside(body: Any, inputs: Mapping[str, Tensor]) -> TrueupError:
    """The error of a token or a position that a model's tables do not have."""
    tokens = inputs["input_ids"]
    highest, ids = int(tokens.max()), body.get_input_embeddings().weight.shape[0]
    if highest >= ids:
        reason = f"token id {highest} is outside the model's table of {ids} ids"
        remedy = "use the tokenizer that belongs to the model"
    else:
        last = int(inputs["position_ids"].max()) if "position_ids" in inputs else tokens.shape[1] - 1
        context = getattr(body.config.get_text_config(), "max_position_embeddings", "its")
        reason = f"a sequence of {last + 1} tokens is longer than the model's context of {context}"
        remedy = "lower data.max_tokens or decoding.max_new_tokens, so that prompt and completion fit"
    return TrueupError("E504", reason, where=type(body).__name__, remedy=remedy)


def padded_states(body: nn.Module, batch: Batch) -> States:
    """Hidden states of each completion's own sequence, padded on the right to the longest [N * L, d].

    Causality keeps padding on the right from every real token, so no mask is needed and the numbers are the
    packed path's.
    """
    build(batch)  # refuses empty prompts as the packed path does
    rows, starts = [], batch.tokens
    for span in batch.spans:
        prompt = starts[span.prompt[0] : span.prompt[0] + span.prompt[1]]
        rows += [torch.cat([prompt, starts[a : a + n]]) for a, n in span.completions]
    hidden, length = run_padded(body, rows)
    number = torch.arange(len(rows), device=batch.tokens.device)
    return States(
        hidden,
        batch.completion * length + batch.positions[batch.at],
        number * length + batch.positions[batch.last],
    )


def run_padded(body: nn.Module, rows: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Hidden states [B * L, d] of sequences padded on the right to L, and L."""
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    hidden = run(body, input_ids=padded, attention_mask=torch.ones_like(padded))
    return hidden.flatten(0, 1), padded.shape[1]


def ends_alone(body: nn.Module, texts: Sequence[Tensor], *, packs: bool) -> Tensor:
    """The last hidden state of each text [B, d], every text read by itself."""
    device = texts[0].device
    row = pack([Group(prompt=(), prompt_tokens=text.cpu().numpy()) for text in texts]).to(device)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    if packs:
        return packed_states(body, row).rows.index_select(0, lengths.cumsum(0) - 1)
    build(row)  # refuses empty texts as the packed path does
    hidden, length = run_padded(body, texts)
    return hidden.index_select(0, torch.arange(len(texts), device=device) * length + lengths - 1)


@contextmanager
def in_use(module: nn.Module) -> Iterator[None]:
    """Inside, no dropout; the module's mode is as before afterwards."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@contextmanager
def _adapter_off(module: nn.Module) -> Iterator[None]:
    """Inside, LoRA layers use the base weights alone; every `requires_grad` is as before afterwards."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in module.modules() if isinstance(m, BaseTunerLayer)]
    wanted = [(p, p.requires_grad) for layer in layers for p in layer.parameters()]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
