"""What a model can do, found by trying: whether it packs, and what it does to its logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueup.engine.batch import Batch
from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models import attention
from trueup.models.forward import States, in_use, padded_states
from trueup.models.layout import layout_of
from trueup.models.logprob import Head, logits
from trueup.settings.sound import not_finite

LONGEST = 160
"Tokens of the probe's longest sequence, when a sliding window asks for that many."
TOLERANCE = {torch.float64: 1e-5, torch.float32: 2e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}
"Largest difference allowed, as a share of the largest hidden state; a leak between sequences is far above."


def probe(model: Any) -> str:
    """Why this model cannot be packed, or nothing when packed and alone agree.

    The model is left registered under `trueup` when it packs and under its own attention when it does not.
    """
    attention.install()
    before = model.config._attn_implementation
    try:
        with in_use(model), torch.no_grad():
            reason = _compare(model)
    except attention.NotPackable as error:
        reason = str(error)
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, TrueupError) as error:
        # A probe: whatever an unknown architecture raises means that it cannot be packed, and is reported.
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if reason:
        model.set_attn_implementation(before)
    return reason


def _compare(model: Any) -> str:
    body = model.base_model
    config = model.config.get_text_config()
    if getattr(config, "attention_chunk_size", None):
        return "its attention is chunked"
    batch = _batch(config, next(model.parameters()).device)
    alone = _read(padded_states(body, batch))
    model.set_attn_implementation(attention.NAME)
    state = attention.Packing(layout_of(batch))
    with attention.attending(state):
        out = body(input_ids=batch.tokens[None], position_ids=batch.positions[None], use_cache=False)
    if not state.seen:
        return "it never calls the attention function"
    found = _read(States(out.last_hidden_state[0], batch.at, batch.last))
    gap = (found - alone).abs().max().item() / max(alone.abs().max().item(), 1e-30)
    allowed = TOLERANCE[found.dtype]
    return "" if gap <= allowed else f"packed and alone differ by {gap:.2g} of the largest hidden state"


def _batch(config: Any, device: torch.device) -> Batch:
    """Two groups of two completions of random tokens, longer than the sliding window if that is short."""
    window = getattr(config, "sliding_window", None) or 0
    limit = getattr(config, "max_position_embeddings", None) or LONGEST
    length = min(window + 8 if window + 8 <= LONGEST else 12, limit // 2)
    generator = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        return generator.integers(0, config.vocab_size, max(1, n)).astype(np.int32)

    groups = [
        Group(
            prompt=(),
            prompt_tokens=draw(p),
            completions=tuple(Completion(text="", tokens=draw(n)) for n in c),
        )
        for p, c in ((5, (3, length - 5)), (max(2, length // 2), (4, 2)))
    ]
    return pack(groups).to(device)


def _read(states: States) -> Tensor:
    """The states that predict the tokens, and those that end the completions."""
    return states.rows.index_select(0, torch.cat([states.at, states.last]))


def refuse_non_finite(model: Any, where: str) -> None:
    """Nothing; raises E817 where a weight is NaN or infinite, naming its tensor."""
    for name, tensor in model.named_parameters():
        # A sum is finite only where its parts are, and needs no memory; it may overflow where they do not.
        if tensor.is_floating_point() and not bool(tensor.detach().sum(dtype=torch.float32).isfinite()):
            bad = int((~tensor.detach().isfinite()).sum())
            if bad:
                raise not_finite(name, bad, tensor.numel(), where)


def readout_of(model: Any) -> tuple[float, float | None]:
    """What a model does to its logits after the LM head: a factor and a soft cap.

    Raises E805 when what its config names does not reproduce the model's own logits, E817 when those are not
    finite.
    """
    config = model.config.get_text_config()
    factor = float(getattr(config, "logit_scale", None) or 1.0)
    factor /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    linear = model.get_output_embeddings()
    device = next(model.parameters()).device
    tokens = torch.arange(6, device=device)[None] % config.vocab_size
    with in_use(model), torch.no_grad():
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
        wanted = model(input_ids=tokens, use_cache=False).logits[0].double()
    head = Head(linear.weight, getattr(linear, "bias", None), factor, cap)
    gap = (logits(hidden, head, 1.0).double() - wanted).abs().max().item() / max(
        1.0, wanted.abs().max().item()
    )
    if not np.isfinite(gap):
        raise TrueupError(
            "E817",
            "its logits are NaN or infinite, though its weights are not: they overflow on the way",
            where=f"{type(model).__name__} in {hidden.dtype}",
            remedy="set model.dtype: float32; where that is what it runs in, its weights are damaged",
        )
    if not gap <= TOLERANCE[hidden.dtype]:
        raise TrueupError(
            "E805",
            f"the LM head does something to its logits that is not known here (relative gap {gap:.2g})",
            where=type(model).__name__,
            remedy="use a model whose logits are a linear function of its last hidden state",
        )
    return factor, cap
