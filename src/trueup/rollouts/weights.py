"""The policy's weights on disk for a server to read, and which of them it would serve wrongly."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from trueup.engine import disk
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.load import merge, save
from trueup.models.lora import save_adapter
from trueup.rollouts.server import Kind

FOLDER = "sampler"
"Inside a run's folder: what the server reads."


def refuse_unserved(network: LanguageModel, kind: Kind) -> None:
    """Nothing; raises E866 for weights that the server cannot be sent, or would serve as others.

    vLLM loads LoRA matrices of the body's layers. It leaves out or misreads the rest of what peft can train:
    magnitudes (DoRA), biases, whole modules, stacked parameters, tokens, and adapters on embeddings or head.
    Full weights reach it over NCCL or CUDA IPC alone.
    """
    if kind == "sglang":
        return
    if not network.has_adapter:
        raise _unserved(
            "all weights are trained, and vLLM takes them over NCCL or CUDA IPC alone",
            "train an adapter: --model.lora.rank 16; or serve by SGLang: --sampler.kind sglang",
        )
    model: Any = network.module["model"]
    for config in model.peft_config.values():
        said = {
            "DoRA": getattr(config, "use_dora", False),
            "biases": getattr(config, "bias", "none") != "none",
            "modules_to_save": getattr(config, "modules_to_save", None),
            "target_parameters": getattr(config, "target_parameters", None),
            "trainable_token_indices": getattr(config, "trainable_token_indices", None),
        }
        bare = network.hf_model
        outer = [m for m in (bare.get_output_embeddings(), bare.get_input_embeddings()) if m is not None]
        said["an adapter on the head or the embeddings"] = any(hasattr(m, "base_layer") for m in outer)
        if wrong := [name for name, there in said.items() if there]:
            raise _unserved(
                f"vLLM would not serve this adapter as it is trained: {', '.join(wrong)}",
                "a plain LoRA on layers of the body: --model.lora.dora false --model.lora.targets all-linear",
            )


def _unserved(reason: str, remedy: str) -> TrueupError:
    return TrueupError("E866", reason, where="sampler.kind vllm", remedy=remedy)


def digest_of(network: LanguageModel) -> str:
    """A SHA-256 over all parameters that train."""
    state = hashlib.sha256()
    for name, parameter in network.module.named_parameters():
        if parameter.requires_grad:
            state.update(name.encode())
            state.update(parameter.detach().flatten().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def written(network: LanguageModel, folder: Path, kind: Kind) -> Path:
    """The new folder: the adapter alone for vLLM, whole weights, an adapter merged, for SGLang."""
    with disk.whole_folder(folder) as staged:
        if kind == "vllm":
            save_adapter(network.module["model"], staged)
        else:
            save(merge(network), staged)
    return folder.resolve()
