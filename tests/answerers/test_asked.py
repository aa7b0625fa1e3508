"""Tools, calls, their answers and thoughts in requests to `trueup serve` reach the model's template."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import trl_templates
from answerers.worlds import MODEL, local
from chat_shapes import IM, byte_level
from tiny_models import llama
from trueup.answerers.local import LocalAnswerer
from trueup.answerers.service import PATHS, Service
from trueup.chat import Chat
from trueup.errors import TrueupError
from trueup.models.load import from_modules

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
ASK = {"role": "user", "content": "two plus two?"}
# As clients send an answer back: what is null is not said.
CALLED = {"role": "assistant", "content": None, "refusal": None, "function_call": None, "tool_calls": [CALL]}
FOUND = {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"}
THOUGHT = {"role": "assistant", "content": "Let me look.", "reasoning_content": "hm", "tool_calls": [CALL]}
shipped = pytest.mark.skipif(not trl_templates.names(), reason="trl is not installed: it ships the template")


@functools.cache
def service(name: str) -> Service:
    """A random model behind a template that TRL ships, or behind one of ours."""
    if name == "bytes":
        return Service(answerer=local(), model=MODEL)
    own = name == "chatml-tools"
    tokenizer = byte_level(IM, eos=IM[2]) if own else trl_templates.tokenizer(name)
    network = from_modules(llama(vocab_size=len(tokenizer), max_position_embeddings=1024), tokenizer)
    chat = Chat.of(tokenizer, name if own else None, thinking=True)
    return Service(answerer=LocalAnswerer(name=MODEL, network=network, chat=chat), model=MODEL)


def prompt(name: str, *messages: Any, **more: Any) -> str:
    """What the model reads of a request, once it was answered."""
    one = service(name)
    body = {"model": MODEL, "messages": list(messages), "max_tokens": 3, "temperature": 0, **more}
    request = one.read(PATHS[0], body)
    answer = one.answer(request)
    ids = one.answerer.chat.prompt_ids(request.conversation)
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert isinstance(answer["choices"][0]["message"]["content"], str)
    return one.answerer.chat.codec.decode(ids)


def test_tools_and_calls_reach_the_template() -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    told = prompt("chatml-tools", ASK, CALLED, FOUND, tools=TOOLS, tool_choice="auto")
    system, asked, called, found, end = told.split("<|im_start|>")[1:]
    assert system.startswith('system\nTools:\n{"type": "function", "function": {"name": "weather"')
    assert asked == "user\ntwo plus two?<|im_end|>\n"
    assert called == f"assistant\n{call}<|im_end|>\n"
    assert (found, end) == ("tool\n21 degrees<|im_end|>\n", "assistant\n")


@shipped
@pytest.mark.parametrize(
    ("name", "messages", "end"),
    [
        ("deepseekv3", [ASK], "<｜User｜>two plus two?<｜Assistant｜><think>\n"),
        (
            "deepseekv3",
            [ASK, CALLED, FOUND],
            '<｜tool▁sep｜>weather\n```json\n{"city": "Rome"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
            "<｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>21 degrees"
            "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
        ),
        ("glm4moe", [ASK], "<|user|>\ntwo plus two?<|assistant|>"),
        (
            "glm4moe",
            [ASK, THOUGHT, FOUND],
            "<|assistant|>\n<think>hm</think>\nLet me look.\n<tool_call>weather\n<arg_key>city</arg_key>\n"
            "<arg_value>Rome</arg_value>\n</tool_call><|observation|>\n<tool_response>\n21 degrees\n"
            "</tool_response><|assistant|>",
        ),
        ("qwen3", [ASK, THOUGHT, FOUND], "\n21 degrees\n</tool_response><|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_models_of_deepseek_glm_and_qwen_are_served(name: str, messages: list[Any], end: str) -> None:
    assert prompt(name, *messages).endswith(end)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": [ASK], "tools": TOOLS}, r"E360 .*does not show the tools .* weather"),
        ({"messages": [ASK, CALLED, FOUND]}, r"E361 .*does not show the call of weather in message 2"),
    ],
)
def test_what_a_template_cannot_show_is_refused_with_its_reason(body: dict[str, Any], said: str) -> None:
    one = service("bytes")
    with pytest.raises(TrueupError, match=said):
        one.answer(one.read(PATHS[0], {"model": MODEL, **body}))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": ["hi"]}, r"messages\[0\]"),
        ({"messages": [ASK, {"role": "narrator", "content": "x"}]}, r"messages\[1\].role"),
        ({"messages": [{**ASK, "weight": 0}]}, r"messages\[0\].weight"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content"),
        ({"messages": [{**ASK, "tool_calls": [CALL]}]}, r"messages\[0\]"),
        ({"messages": [{**CALLED, "tool_calls": [{"id": "c1"}]}]}, r"messages\[0\].tool_calls\[0\]"),
        ({"messages": [ASK], "tools": [{}]}, r"tools\[0\]"),
        ({"messages": [ASK], "tool_choice": "none"}, "tool_choice"),
        ({"messages": [{**ASK, "content": [{"type": "image_url"}]}]}, r"messages\[0\].content\[0\]"),
    ],
)
def test_what_is_no_conversation_is_refused_by_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(TrueupError, match=field) as caught:
        service("bytes").read(PATHS[0], {"model": MODEL, **body})
    assert caught.value.remedy


def test_deep_nesting_is_refused() -> None:
    deep: Any = {}
    for _ in range(100):
        deep = {"a": deep}
    tool = {"type": "function", "function": {"name": "weather", "parameters": deep}}
    with pytest.raises(TrueupError, match="nested deeper than 64"):
        service("bytes").read(PATHS[0], {"model": MODEL, "messages": [ASK], "tools": [tool]})
