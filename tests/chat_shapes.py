"""Small tokenizers with the real control tokens of each model family, and templates of the real shapes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The user asks the assistant a question, and the assistant answers it in a few words.",
    "Human: What is the capital of France?\n\nAssistant: The capital of France is Paris.",
    "system prompt, user prompt, model answer. Hello, how are you today? I am fine, thank you!",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))  # three\n",
    "start_of_turn end_of_turn im_start im_end INST eot_id header think tool_response begin_of_text",
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nYou are a helpful assistant.",
]


@cache
def _byte_level_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r" ?[A-Za-z]+|\d{1,3}| ?[^\sA-Za-z\d]+[\n]*|\s*\n+|\s+(?!\S)|\s+"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.to_str()


@cache
def _metaspace_json(kind: str) -> str:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
        tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    elif kind == "replace":
        tokenizer.normalizer = spaces
        tokenizer.decoder = decoders.Sequence(steps)
    else:
        scheme = kind.removeprefix("metaspace-")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    state = json.loads(tokenizer.to_str())
    # The byte tokens are plain vocabulary, as in the real models: only the named ones are added tokens.
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    return json.dumps(state)


def _wrap(
    raw: Tokenizer,
    special: tuple[str, ...],
    plain: tuple[str, ...],
    bos: str | None,
    eos: str,
    template: str | None,
) -> Any:
    raw.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    raw.add_tokens([AddedToken(t, normalized=False, special=False) for t in plain])
    if bos is not None:
        ids = [(bos, raw.token_to_id(bos))]
        raw.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=None, special_tokens=ids)
    names = {"eos_token": eos} if bos is None else {"eos_token": eos, "bos_token": bos}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    wrapped.chat_template = template
    return wrapped


def byte_level(
    special: tuple[str, ...],
    plain: tuple[str, ...] = (),
    *,
    bos: str | None = None,
    eos: str,
    template: str | None = None,
) -> Any:
    """A byte-level BPE tokenizer, as GPT-2's, Llama 3's and Qwen's."""
    return _wrap(Tokenizer.from_str(_byte_level_json()), special, plain, bos, eos, template)


def metaspace(
    special: tuple[str, ...] = (),
    plain: tuple[str, ...] = (),
    *,
    kind: str = "prepend",
    bos: str | None = "<s>",
    eos: str = "</s>",
    template: str | None = None,
) -> Any:
    """A SentencePiece-like BPE tokenizer with byte fallback.

    `prepend`: a space before each piece of text, as Llama 2's; `replace`: none, as Gemma's;
    `metaspace-first`: one at the very start, as later Mistral models'; `metaspace-always`: as T5's.
    """
    return _wrap(Tokenizer.from_str(_metaspace_json(kind)), special, plain, bos, eos, template)


# The templates, each a short equivalent of what the models of that family ship.

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] +"
    " '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LLAMA3 = (
    "{{- bos_token }}"
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Cutting Knowledge Date: December 2023\n' }}"
    "{{- 'Today Date: ' + date_string + '\n\n' }}{{- system_message }}{{- '<|eot_id|>' }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
    " + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not"
    " supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
    "{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

# Later Mistral models: the markers are tokens, and the system's words go before the last question.
MISTRAL_TOKENS = (
    "{%- if messages[0]['role'] == 'system' %}{%- set said = messages[0]['content'] %}{%- set rest ="
    " messages[1:] %}"
    "{%- else %}{%- set said = '' %}{%- set rest = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in rest %}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('After the optional system message, roles must alternate') }}{%- endif %}"
    "{%- if message['role'] == 'user' %}"
    "{%- if loop.last and said %}{{- '[INST] ' + said + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- else %}{{- ' ' + message['content']|trim + eos_token}}{%- endif %}{%- endfor %}"
)

ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)

LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' '  + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

QWEN3 = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content +"
    " '<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}"
    "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
    "{%- if ns.multi_step_tool and message.role == 'user' and not"
    " (message.content.startswith('<tool_response>')"
    " and message.content.endswith('</tool_response>')) %}"
    "{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- elif message.role == 'assistant' %}"
    "{%- set content = message.content %}{%- set reasoning_content = '' %}"
    "{%- if message.reasoning_content is defined and message.reasoning_content is not none %}"
    "{%- set reasoning_content = message.reasoning_content %}"
    "{%- else %}{%- if '</think>' in message.content %}"
    "{%- set content = message.content.split('</think>')[-1].lstrip('\n') %}"
    "{%- set reasoning_content ="
    " message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{%- endif %}{%- endif %}"
    "{%- if loop.index0 > ns.last_query_index %}"
    "{%- if loop.last or (not loop.last and reasoning_content) %}"
    "{{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n'"
    " + content.lstrip('\n') }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\n' + content }}{%- endif %}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\n' + content }}{%- endif %}"
    "{{- '<|im_end|>\n' }}"
    "{%- elif message.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n'"
    " }}{%- endif %}"
    "{%- endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model family: its tokenizer with its template, and what may be said in it."""

    name: str
    tokenizer: Any
    system: bool
    "Whether the template takes a system turn."
    stop: str
    template: str | None = None
    "The name to ask for, where the tokenizer brings no template."


IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@cache
def shapes() -> tuple[Shape, ...]:
    """The model families that the tests run through."""
    heads = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    llama3 = byte_level(heads, bos=heads[0], eos=heads[-1], template=LLAMA3)
    turns = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    gemma = metaspace(turns, ("<table>", "\n\n"), kind="replace", bos="<bos>", eos="<eos>", template=GEMMA)
    qwen = byte_level(
        IM, ("<think>", "</think>", "<tool_response>", "</tool_response>"), eos=IM[2], template=QWEN3
    )
    inst = ("[INST]", "[/INST]")
    return (
        Shape("chatml", byte_level(IM, ("<think>",), eos=IM[2], template=CHATML), True, IM[2]),
        Shape("llama3", llama3, True, "<|eot_id|>"),
        Shape("gemma", gemma, False, "<end_of_turn>"),
        Shape("mistral", metaspace(template=MISTRAL), False, "</s>"),
        Shape(
            "mistral-tokens", metaspace(inst, kind="metaspace-first", template=MISTRAL_TOKENS), True, "</s>"
        ),
        Shape("llama2", metaspace(template=LLAMA2), False, "</s>"),
        Shape("zephyr", metaspace(template=ZEPHYR), True, "</s>"),
        Shape("qwen3", qwen, True, IM[2]),
        Shape("hh", byte_level(("<|endoftext|>",), eos="<|endoftext|>"), False, "<|endoftext|>", "hh"),
    )


@dataclass(frozen=True, slots=True)
class Tooled:
    """The tokens of a template with tools that an installed library ships."""

    tokens: tuple[str, ...]
    plain: tuple[str, ...]
    bos: str | None
    stop: str


_HEADERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_THINK = ("<think>", "</think>")
_CALL = ("<tool_call>", "</tool_call>")
TOOLED = {
    "qwen3": Tooled(IM, (*_THINK, *_CALL, "<tool_response>", "</tool_response>"), None, IM[2]),
    "qwen2_5": Tooled(IM, _CALL, None, IM[2]),
    "llama3_1": Tooled((*_HEADERS, "<|eom_id|>", "<|python_tag|>"), (), _HEADERS[0], "<|eot_id|>"),
    "gptoss": Tooled(
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>", "<|return|>"),
        (),
        None,
        "<|return|>",
    ),
}


def shipped(name: str, kind: str = "") -> Any:
    """A small tokenizer with a template as TRL, one of the tests' own dependencies, ships it."""
    found = find_spec("trl")
    assert found is not None and found.origin is not None
    source = Path(found.origin).parent / "chat_templates" / f"{name}{kind}.jinja"
    shape = TOOLED[name]
    return byte_level(
        shape.tokens, shape.plain, bos=shape.bos, eos=shape.stop, template=source.read_text("utf-8")
    )
