"""Value, reward and embedding heads, and the file that holds them beside a Hugging Face checkpoint.

    V(s_t) = w · h_t + b          w, b = 0 at the start
    r(x, y) = gain (w · h_last + b) + bias,   w ~ N(0, 1/(d + 1)), b = 0, gain = 1, bias = 0
    f(s) = W h_last                W ~ N(0, 1/d), [128, d]

(Stiennon et al. 2020 for the reward head's scale.) Heads compute in float32 on a bfloat16 body.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trueup.engine.method import HeadName
from trueup.errors import TrueupError

FILE = "trueup_heads.safetensors"
RECORD = "trueup_heads.json"
MODULES = {"values": "value_head", "rewards": "reward_head", "embeddings": "embedding_head"}
EMBEDDING_SIZE = 128


@final
class ValueHead(nn.Module):
    """One number for each state, zero at the start."""

    def __init__(self, hidden_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """V [R] of hidden states [R, d]."""
        return self.linear(hidden.to(self.linear.weight.dtype)).squeeze(-1)


@final
class RewardHead(nn.Module):
    """One score for each completion; `gain` and `bias` are the normalisation that a reward model carries."""

    gain: Tensor
    bias: Tensor

    def __init__(self, hidden_size: int, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=dtype)
        _draw(self.linear.weight, seed, fan=hidden_size + 1)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("gain", torch.ones((), dtype=dtype))
        self.register_buffer("bias", torch.zeros((), dtype=dtype))

    def forward(self, hidden: Tensor) -> Tensor:
        """r [R] of hidden states [R, d]."""
        return self.linear(hidden.to(self.linear.weight.dtype)).squeeze(-1) * self.gain + self.bias


@final
class EmbeddingHead(nn.Module):
    """A linear projection of a text's last hidden state, neither centred nor normalised."""

    def __init__(self, hidden_size: int, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, EMBEDDING_SIZE, bias=False, dtype=dtype)
        _draw(self.linear.weight, seed, fan=hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """f [R, 128] of hidden states [R, d]."""
        return self.linear(hidden.to(self.linear.weight.dtype))


def _draw(weight: Tensor, seed: int, *, fan: int) -> None:
    """Nothing; fills the weights from N(0, 1 / fan), drawn in float64."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        weight.copy_(drawn / fan**0.5)


def make(names: Sequence[HeadName], hidden_size: int, dtype: torch.dtype, seed: int) -> dict[str, nn.Module]:
    """Fresh heads for the outputs named, by module name; log-probs need none."""
    wide = torch.promote_types(dtype, torch.float32)
    made: dict[str, nn.Module] = {}
    if "values" in names:
        made[MODULES["values"]] = ValueHead(hidden_size, wide)
    if "rewards" in names:
        made[MODULES["rewards"]] = RewardHead(hidden_size, wide, seed)
    if "embeddings" in names:
        made[MODULES["embeddings"]] = EmbeddingHead(hidden_size, wide, seed)
    return made


def save(heads: dict[str, nn.Module], folder: Path) -> None:
    """Writes heads into a checkpoint folder; without heads, writes nothing."""
    if not heads:
        return
    tensors = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, head in sorted(heads.items())
        for key, tensor in head.state_dict().items()
    }
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    record = {"format": 1, "heads": sorted(heads)}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def restore(heads: dict[str, nn.Module], folder: Path) -> None:
    """Nothing; fills those heads that a checkpoint folder holds.

    Raises E802 where they cannot be read, E804 on a bad shape, E817 on NaN.
    """
    path = folder / FILE
    try:
        tensors = load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError, ValueError) as error:
        reason = f"its heads cannot be read: {error}"
        raise TrueupError("E802", reason, where=str(path), remedy="copy or save the model again") from None
    for name, head in heads.items():
        mine = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
        if not mine:
            continue
        bad = sorted(key for key, tensor in mine.items() if not bool(tensor.isfinite().all()))
        if bad:
            raise TrueupError(
                "E817",
                f"{name}.{bad[0]} holds NaN or infinite numbers",
                where=str(path),
                remedy="train the head again, or take a checkpoint before the numbers broke",
            )
        try:
            head.load_state_dict(mine)
        except RuntimeError as error:
            raise TrueupError(
                "E804",
                f"the saved {name} does not fit this model: {str(error).splitlines()[-1].strip()}",
                where=str(path),
                remedy="load the folder it was saved with",
            ) from None
