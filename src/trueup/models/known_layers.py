"""One new token a row through decoders of Llama's kind, without the library's modules around the arithmetic.

    h = x + W_o attend(R W_q n(x), R W_k n(x), W_v n(x))
    y = h + W_d (act(W_g n'(h)) * W_u n'(h))

n is a root mean square norm and R the rotation by position (Touvron et al. 2023; Qwen3 norms each query and
key head before R). With few rows, calling the library's modules takes as long as what they compute. Linear
layers of any kind are called as they are, adapters included; everything else has to be exactly a class named
here, with no hook on it. Whether the result is the library's is for the caller to try (`decode.Cached`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trueup.models.prepacked import is_packed

FAMILIES = tuple(
    f"transformers.models.{name.lower()}.modeling_{name.lower()}.{name}"
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3")
)
"How the names of their classes begin."
PARTS = {
    "input_layernorm": "RMSNorm",
    "self_attn": "Attention",
    "post_attention_layernorm": "RMSNorm",
    "mlp": "MLP",
}
"What a layer is made of, and how the names of the classes end."

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"The attention of layer i: queries [B, H, D], keys and values [B, Hkv, D] to [B, H, D]."


def known(body: Any) -> Stepper | None:
    """The body's own forward for one token a row, or None for a body that is not one of those known here."""
    family = next((f for f in FAMILIES if _name(body) == f"{f}Model"), None)
    if family is None or not all(map(_bare, _around(body))):
        return None
    expected = [(body.norm, "RMSNorm"), *((layer, "DecoderLayer") for layer in body.layers)]
    expected += [(getattr(layer, part), name) for layer in body.layers for part, name in PARTS.items()]
    return Stepper(body) if all(_name(m) == family + name for m, name in expected) else None


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _around(body: Any) -> Iterator[nn.Module]:
    """The modules that are not called here, though the library calls them."""
    yield from (body, body.norm)
    for layer in body.layers:
        yield from (layer, *(getattr(layer, part) for part in PARTS))
        yield from (m for name in ("q_norm", "k_norm") if (m := getattr(layer.self_attn, name, None)))


def _bare(module: nn.Module) -> bool:
    """Whether calling a module is calling its class's forward, and nothing else."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    return not any(hooks) and "forward" not in vars(module)


@dataclass(frozen=True, eq=False)
class Norm:
    """weight * x / sqrt(mean x² + eps), in float32, rounded before the weight."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        shape = self.weight.shape
        if x.dtype == torch.float32:
            return torch.rms_norm(x, shape, self.weight, self.eps)
        return self.weight * torch.rms_norm(x.float(), shape, None, self.eps).to(x.dtype)


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _product(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a linear layer computes; of one that is the library's plainest, without the module around it."""
    if is_packed(layer):
        return layer.forward
    if type(layer) is not nn.Linear or not _bare(layer):
        return layer
    weight, bias = layer.weight, layer.bias
    return lambda x: nn.functional.linear(x, weight, bias)


class Block:
    """One layer."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.first, self.second = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        self.query, self.key, self.value, self.out = map(_product, projections)
        self.gate, self.up, self.down = map(_product, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self.act = mlp.act_fn
        norms = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
        self.query_norm, self.key_norm = (None if m is None else _norm(m) for m in norms)
        self.head_dim = attention.head_dim

    def forward(self, x: Tensor, turn: Callable[[Tensor], Tensor], number: int, attend: Attend) -> Tensor:
        """States [B, d] after the layer."""
        normed = self.first(x)
        heads = (x.shape[0], -1, self.head_dim)
        q, k, v = (f(normed).view(heads) for f in (self.query, self.key, self.value))
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        x = x + self.out(attend(number, turn(q), turn(k), v).flatten(1))
        normed = self.second(x)
        return x + self.down(self.act(self.gate(normed)) * self.up(normed))


class Stepper:
    """A whole body: states of one new token a row."""

    def __init__(self, body: Any) -> None:
        self._embed, self._rotary, self._norm = body.embed_tokens, body.rotary_emb, _norm(body.norm)
        self._blocks = [Block(layer) for layer in body.layers[: body.config.num_hidden_layers]]

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Last states [B, d] of tokens [B] at positions [B, 1]."""
        x = self._embed(tokens)
        cos, sin = self._rotary(x, position_ids=positions)
        half = cos.shape[-1] // 2
        # A half turned by minus the sine is minus that half turned: the sign goes to the smaller tensor.
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)

        def turn(heads: Tensor) -> Tensor:
            return torch.addcmul(heads * cos, heads.roll(half, -1), sin)

        for number, block in enumerate(self._blocks):
            x = block.forward(x, turn, number, attend)
        return self._norm(x)
