"""Small tokenizers for every chat template that TRL ships, with the control tokens of its family."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chat_shapes import IM, byte_level

THINK = ("<think>", "</think>")
CALL = ("<tool_call>", "</tool_call>")
RESPONSE = ("<tool_response>", "</tool_response>")
_HEADERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_IMAGE = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The added tokens of a family: special ones, others, the beginning, and the end of texts."""

    special: tuple[str, ...]
    plain: tuple[str, ...] = ()
    bos: str | None = None
    eos: str = IM[2]


_QWEN = Tokens(IM, (*THINK, *CALL, *RESPONSE, *_IMAGE))
_COHERE = Tokens(
    ("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
     "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
_DEEPSEEK = Tokens(
    ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ("<｜User｜>", "<｜Assistant｜>", *THINK, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
     "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
     "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>"),
    bos="<｜begin▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>",
)  # fmt: skip
_GEMMA = Tokens(("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>", eos="<eos>")
_GEMMA4 = Tokens(
    ("<bos>", "<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool>", "<tool|>", "<|tool_call>",
     "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>', "<|think|>"),
    bos="<bos>", eos="<eos>",
)  # fmt: skip
_GLM = Tokens(
    ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    (*THINK, *CALL, *RESPONSE, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink"),
    eos="<|endoftext|>",
)
_GPT_OSS = Tokens(
    ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>", "<|return|>"),
    eos="<|return|>",
)
_LFM2 = Tokens(
    ("<|startoftext|>", *IM, "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>",
     "<|tool_call_end|>", "<|tool_response_start|>", "<|tool_response_end|>"),
    THINK, bos="<|startoftext|>",
)  # fmt: skip
_LLAMA3 = Tokens((*_HEADERS, "<|eom_id|>", "<|python_tag|>"), bos=_HEADERS[0], eos="<|eot_id|>")
_MUSE = Tokens(("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|eot|>", "<|eom|>"), eos="<|eot|>")
_NEMOTRON = Tokens(("<s>", "</s>", *IM[1:]), (*THINK, *CALL, *RESPONSE), bos="<s>")
_PHI3 = Tokens(
    ("<s>", "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"),
    bos="<s>", eos="<|endoftext|>",
)  # fmt: skip
_SMOLVLM = Tokens(
    ("<|im_start|>", "<|begin_of_text|>", "<end_of_utterance>", "<image>"),
    bos="<|im_start|>",
    eos="<end_of_utterance>",
)
_LLAVA = Tokens(("<s>", "</s>", "[INST]", "[/INST]", "<image>"), bos="<s>", eos="</s>")

FAMILIES = {
    "cohere": _COHERE, "deepseek": _DEEPSEEK, "diffusion_gemma": _GEMMA4, "gemma4": _GEMMA4, "gemma": _GEMMA,
    "glm4moe": _GLM, "gptoss": _GPT_OSS, "idefics3": _SMOLVLM, "lfm2": _LFM2, "llama3": _LLAMA3,
    "llava": _LLAVA, "muse": _MUSE, "nemotron": _NEMOTRON, "phi3": _PHI3, "qwen": _QWEN, "smolvlm": _SMOLVLM,
}  # fmt: skip
"Tokens by how the names of a family's templates begin."


def folder() -> Path | None:
    """Where the installed TRL keeps its templates, without importing it; None where it is not installed."""
    found = find_spec("trl")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "chat_templates"


def names() -> list[str]:
    """Every template that the installed TRL ships; none where it is not installed."""
    at = folder()
    return sorted(path.stem for path in at.glob("*.jinja")) if at is not None else []


@cache
def tokenizer(name: str) -> Any:
    """A small tokenizer with a shipped template and its family's tokens."""
    at = folder()
    assert at is not None
    tokens = next(tokens for begin, tokens in FAMILIES.items() if name.startswith(begin))
    source = (at / f"{name}.jinja").read_text("utf-8")
    return byte_level(tokens.special, tokens.plain, bos=tokens.bos, eos=tokens.eos, template=source)
