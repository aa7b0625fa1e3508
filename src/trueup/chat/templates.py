"""The templates that can be asked for by name, for a model that brings none or another one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Named:
    """A template's Jinja source, without a BOS token, and the tokens it is made of."""

    source: str
    needs: tuple[str, ...] = ()
    "Tokens that the tokenizer must have; without them the roles would be plain text."


BOS = "{{- bos_token -}}\n"
"What a named template begins with where the tokenizer begins plain texts so: a model knows no other start."

FOLD = (
    '{%- if messages | length > 1 and messages[0]["role"] == "system" and messages[1]["role"] == "user" -%}'
    '{%- set system, asked, gap = messages[0]["content"], messages[1]["content"], "\\n\\n" -%}'
    "{%- set said = system ~ gap ~ asked if asked is string"
    ' else system + [{"type": "text", "text": gap}] + asked -%}'
    '{%- set messages = [{"role": "user", "content": said}] + messages[2:] -%}{%- endif %}\n'
)
"What goes before a template that refuses system turns: the system's words stand before the first question."

NO_SYSTEM = (
    '{%- for m in messages if m["role"] == "system" %}'
    '{{- raise_exception("a system message has no form of its own here: it would be written as an answer") }}'
    "{%- endfor %}\n"
)
"What goes before a template that writes a system turn as it writes an assistant's: nobody said those words."
LATER = NO_SYSTEM.replace("messages if", "messages[1:] if")
"The same for one that does so with any system turn but the first."

_CHATML = """{%- for m in messages -%}
<|im_start|>{{ m.role }}{{ "\\n" }}{{ m.content }}<|im_end|>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}{%- endif -%}"""

# Tools stand in the system's turn, a call in the assistant's; what a tool answers has a turn of its own, so
# that no user can write one.
_CHATML_TOOLS = """{%- set first = messages[0] -%}
{%- if tools -%}
<|im_start|>system{{ "\\n" }}
{%- if first.role == "system" -%}{{ first.content }}{{ "\\n\\n" }}{%- endif -%}
{{ "Tools:\\n" }}
{%- for tool in tools -%}{{ tool | tojson }}{{ "\\n" }}{%- endfor -%}
{{ 'Call one with <tool_call>{"name": NAME, "arguments": {...}}</tool_call>.' }}<|im_end|>{{ "\\n" }}
{%- endif -%}
{%- for m in messages -%}
{%- if not (tools and loop.first and m.role == "system") -%}
<|im_start|>{{ m.role }}{{ "\\n" }}{{ m.content or "" }}
{%- for call in m.tool_calls or [] -%}
{{ "\\n" if m.content or not loop.first else "" }}<tool_call>
{{- {"name": call.function.name, "arguments": call.function.arguments} | tojson }}</tool_call>
{%- endfor -%}
<|im_end|>{{ "\\n" }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}{%- endif -%}"""

_LLAMA3 = """{%- for m in messages -%}
<|start_header_id|>{{ m.role }}<|end_header_id|>{{ "\\n\\n" }}{{ m.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_header_id|>assistant<|end_header_id|>{{ "\\n\\n" }}{%- endif -%}"""

_GEMMA = """{%- for m in messages -%}
{%- if m.role == "system" -%}{{ raise_exception("System role not supported") }}{%- endif -%}
{%- if (m.role == "user") != (loop.index0 % 2 == 0) -%}
{{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}{%- endif -%}
<start_of_turn>{{ "model" if m.role == "assistant" else m.role }}{{ "\\n" -}}
{{ m.content | trim }}<end_of_turn>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<start_of_turn>model{{ "\\n" }}{%- endif -%}"""

_MISTRAL = """{%- for m in messages -%}
{%- if (m.role == "user") != (loop.index0 % 2 == 0) -%}
{{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}{%- endif -%}
{%- if m.role == "user" -%}[INST] {{ m.content }} [/INST]
{%- else -%}{{ " " }}{{ m.content }}{{ eos_token }}{%- endif -%}
{%- endfor -%}"""

_ZEPHYR = """{%- for m in messages -%}
<|{{ m.role }}|>{{ "\\n" }}{{ m.content }}{{ eos_token }}{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{{ "\\n" }}{%- endif -%}"""

# A turn whose user text begins and ends as a tool's response is no question of the user's; what the assistant
# thought before the last question is left out.
_QWEN3 = """{%- set ns = namespace(last=messages | length - 1, open=true) -%}
{%- for m in messages[::-1] -%}
{%- if ns.open and m.role == "user" and not (m.content.startswith("<tool_response>")
    and m.content.endswith("</tool_response>")) -%}
{%- set ns.open = false -%}{%- set ns.last = messages | length - loop.index -%}
{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
<|im_start|>{{ m.role }}{{ "\\n" }}
{%- if m.role == "assistant" -%}
{%- set ns.thought = "" -%}{%- set ns.said = m.content -%}
{%- if "</think>" in m.content -%}
{%- set ns.thought = m.content.split("</think>")[0].rstrip("\\n").split("<think>")[-1].lstrip("\\n") -%}
{%- set ns.said = m.content.split("</think>")[-1].lstrip("\\n") -%}
{%- endif -%}
{%- if loop.index0 > ns.last and (loop.last or ns.thought) -%}
<think>{{ "\\n" }}{{ ns.thought.strip("\\n") }}{{ "\\n" }}</think>{{ "\\n\\n" }}{{ ns.said.lstrip("\\n") }}
{%- else -%}{{ ns.said }}{%- endif -%}
{%- else -%}{{ m.content }}{%- endif -%}
<|im_end|>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}
{%- if enable_thinking is defined and enable_thinking is false -%}
<think>{{ "\\n\\n" }}</think>{{ "\\n\\n" }}{%- endif -%}
{%- endif -%}"""

# An end token after every assistant turn: each answer of the history ends as the answer to be learnt does. A
# prompt ends before the space: it belongs to the answer, for whoever encodes the prompt as one string too.
_HH = """{%- for m in messages -%}
{%- if m.role == "assistant" -%}{{ "\\n\\nAssistant: " }}{{ m.content }}{{ eos_token }}
{%- elif m.role == "user" -%}{{ "\\n\\nHuman: " }}{{ m.content }}
{%- else -%}{{ raise_exception("The hh template has no " ~ m.role ~ " role") }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "\\n\\nAssistant:" }}{%- endif -%}"""

NAMED = {
    "chatml": Named(_CHATML, ("<|im_start|>", "<|im_end|>")),
    "chatml-tools": Named(_CHATML_TOOLS, ("<|im_start|>", "<|im_end|>")),
    "llama3": Named(_LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "gemma": Named(_GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    "mistral": Named(_MISTRAL),
    "zephyr": Named(_ZEPHYR),
    "qwen3": Named(_QWEN3, ("<|im_start|>", "<|im_end|>", "<think>", "</think>")),
    "hh": Named(_HH),
}
"Named templates; `plain` is none of them: it takes text prompts only."


def is_ours(source: str) -> bool:
    """Whether a source is one of these templates, with or without what is put before it."""
    source = source.removeprefix(FOLD).removeprefix(BOS)
    return any(source == named.source for named in NAMED.values())
