"""What each template family gives, by hand; what templates refuse; which templates are refused."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from typing import Any

import pytest

from chat_shapes import CHATML, GEMMA, IM, LLAMA3, QWEN3, Shape, byte_level, metaspace, shapes
from shared_data import shared
from trueup.chat import Chat
from trueup.chat.templates import NAMED
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError

SHAPES = {shape.name: shape for shape in shapes()}

TALK = (Message(Role.USER, " one "), Message(Role.ASSISTANT, "two"), Message(Role.USER, "three"))

# The generation prompt of TALK and the completion " four", control tokens as their text. Llama 2's tokenizer
# puts a space after its BOS token by itself; the space that ends a header goes to the completion.
EXPECTED = {
    "chatml": (
        "<|im_start|>user\n one <|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
        "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n",
        " four<|im_end|>",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\none<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\ntwo<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nthree<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "four<|eot_id|>",
    ),
    "gemma": (
        "<bos><start_of_turn>user\none<end_of_turn>\n<start_of_turn>model\ntwo<end_of_turn>\n"
        "<start_of_turn>user\nthree<end_of_turn>\n<start_of_turn>model\n",
        "four<end_of_turn>",
    ),
    "mistral": ("<s> [INST]  one  [/INST] two</s> [INST] three [/INST]", "  four</s>"),
    "mistral-tokens": ("<s>[INST]  one [/INST] two</s>[INST] three[/INST]", " four</s>"),
    "llama2": ("<s> [INST] one [/INST] two </s><s> [INST] three [/INST]", " four </s>"),
    "zephyr": (
        " <|user|>\n one </s> \n<|assistant|>\ntwo</s> \n<|user|>\nthree</s> \n<|assistant|>\n",
        " four</s>",
    ),
    "qwen3": (
        "<|im_start|>user\n one <|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
        "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        " four<|im_end|>",
    ),
    "hh": (
        "\n\nHuman:  one \n\nAssistant: two<|endoftext|>\n\nHuman: three\n\nAssistant:",
        "  four<|endoftext|>",
    ),
}


@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_each_family_by_hand(shape: Shape) -> None:
    chat = Chat.of(shape.tokenizer, shape.template)
    prompt, completion = EXPECTED[shape.name]
    assert chat.codec.decode(chat.prompt_ids(TALK)) == prompt
    ids = chat.completion_ids(" four")
    assert chat.codec.decode(ids) == completion
    assert shape.tokenizer.convert_ids_to_tokens(int(ids[-1])) == shape.stop
    assert chat.stop_ids[0] == ids[-1]
    trims = shape.name in ("llama3", "gemma", "mistral-tokens", "llama2")
    assert chat.decode(ids) == ("four" if trims else " four")
    assert (
        chat.completion_ids(" four", finished=False).tolist()
        == [number for number in chat.completion_ids(" four").tolist() if number != chat.stop_ids[0]]
        or shape.name == "llama2"
    )


@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_benign_text_agrees_with_the_rendered_string(shape: Shape) -> None:
    """On benign text our ids are those of `apply_chat_template`, up to merges at the boundaries."""
    chat = Chat.of(shape.tokenizer, shape.template)
    words = ["Hello there.", "What is the capital of France?", "def add(a, b):\n    return a + b", "a\n\nb"]
    rows = [
        [Message(Role.USER, a), Message(Role.ASSISTANT, b), Message(Role.USER, a)]
        for a in words
        for b in words
    ]
    rows += [row[:2] for row in rows]
    report = chat.agreement(rows)
    assert report.num_rows == 32
    assert set(report.counts()) <= ({"boundary", "space"} if shape.name == "hh" else {"boundary"})
    if shape.name in ("chatml", "llama3", "qwen3", "mistral-tokens"):
        assert report.num_equal == 32
    if shape.template is None and shape.name != "llama3":  # Llama 3's has today's date in it.
        for row in rows[:16]:
            turns = [{"role": str(m.role), "content": m.content} for m in row]
            theirs = shape.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=False, enable_thinking=False
            )
            equal = chat.prompt_ids(row).tolist() == theirs
            assert equal == (chat.agreement([row]).num_equal == 1), "the report compares with what it says"


def test_real_questions_agree() -> None:
    """On real two-turn questions at least 95 % of the prompts have the very ids of the rendered string."""
    import json

    with open(shared("mt_bench/question.jsonl"), encoding="utf-8") as file:
        turns = [json.loads(line)["turns"] for line in file]
    for shape in shapes():
        chat = Chat.of(shape.tokenizer, shape.template)
        rows = [
            [Message(Role.USER, a), Message(Role.ASSISTANT, "Yes."), Message(Role.USER, b)] for a, b in turns
        ]
        report = chat.agreement(rows)
        if shape.name != "hh":  # Its prompts end before the last space, which belongs to the answer.
            assert report.num_equal >= 0.95 * len(rows), (shape.name, report.counts())
        assert "control" not in report.counts() and "text" not in report.counts()


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "mistral", "zephyr", "qwen3"])
def test_named_templates_are_those_of_their_families(name: str) -> None:
    """Our own short templates give the ids of the families' ones (Llama 3's without the header of dates).

    They begin as the tokenizer begins texts, and Zephyr's own does not.
    """
    tokenizer = SHAPES[name].tokenizer
    own, named = Chat.of(tokenizer), Chat.of(tokenizer, name)
    ours, theirs = named.prompt_ids(TALK).tolist(), own.prompt_ids(TALK).tolist()
    if name == "llama3":
        end = theirs.index(own.stop_ids[0])
        theirs = theirs[:1] + theirs[end + 1 :]
    if name == "zephyr":

        def strip(ids: list[int]) -> str:
            return own.codec.decode(ids).replace("\n", "").replace(" ", "")

        assert strip(ours) == "<s>" + strip(theirs)
    else:
        assert ours == theirs
    assert named.stop_ids == own.stop_ids
    assert named.completion_ids("four").tolist() == own.completion_ids("four").tolist()


def test_a_template_refuses_in_its_own_words() -> None:
    gemma = Chat.of(SHAPES["gemma"].tokenizer)
    with pytest.raises(TrueupError, match=r"E351.*System role not supported"):
        gemma.prompt_ids([Message(Role.SYSTEM, "a"), Message(Role.USER, "b")])
    mistral = Chat.of(SHAPES["mistral"].tokenizer)
    with pytest.raises(TrueupError, match=r"E351.*roles must alternate"):
        mistral.prompt_ids([Message(Role.USER, "a"), Message(Role.USER, "b")])
    with pytest.raises(TrueupError, match=r"E351.*no tool role"):
        Chat.of(SHAPES["hh"].tokenizer, "hh").prompt_ids([Message(Role.USER, "a"), Message(Role.TOOL, "b")])


def test_a_system_turn_that_a_template_leaves_out_is_no_silent_loss() -> None:
    with pytest.raises(TrueupError, match=r"E551.*leaves out the content of message 1"):
        Chat.of(SHAPES["llama2"].tokenizer, SKIPS_SYSTEM).prompt_ids([Message(Role.SYSTEM, "a"), *TALK])


SKIPS_SYSTEM = CHATML.replace(
    "{{'<|im_start|>'", "{% if message['role'] == 'system' %}{% else %}{{'[INST]'"
).replace("<|im_end|>' + '\n'}}", "</s>'}}{% endif %}")
SKIPS_SYSTEM = SKIPS_SYSTEM.replace("<|im_start|>assistant\n", "[INST]assistant\n")

PAYLOADS = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__()[0] }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ self.__init__.__globals__ }}{{ self._TemplateReference__context.environment.from_string('x') }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'content': 'x'}) }}",
    "{{ raise_exception.__globals__['sys'] }}",
    "{{ strftime_now.__self__.__class__.__subclasses__() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ ('%s' | attr('__class__')).__mro__ }}",
    "{{ range(10 ** 9) | list }}",
    "{% import 'os' as os %}{{ os.system('id') }}",
    "{% include '/etc/passwd' %}",
    "{{ ().__class__.__bases__[0].__subclasses__()[40]('/etc/passwd').read() }}",
    "{{ '{0.__class__.__mro__[1]}'.format('').__class__.__mro__[1] }}",
    "{{ 1 / 0 }}",
    "{{ messages[0].content + 1 }}",
    "{% for",
)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_templates_are_errors(payload: str) -> None:
    """Each payload before a working template: refused by the sandbox, or it fails; no traceback."""
    with pytest.raises(TrueupError) as caught:
        Chat.of(SHAPES["chatml"].tokenizer, payload + CHATML)
    assert caught.value.code in ("E550", "E551", "E353")
    assert caught.value.code == "E550" or "messages" in payload


BROKEN = {
    "upper": (CHATML.replace("message['content']", "message['content'] | upper"), "E551"),
    "first characters": (CHATML.replace("message['content']", "message['content'][:100]"), "E353"),
    "twice": (CHATML.replace("message['content']", "message['content'] + message['content']"), "E551"),
    "no content": (CHATML.replace("message['content']", "'x'"), "E551"),
    "json": (CHATML.replace("message['content']", "message['content'] | tojson"), "E551"),
    "length": (CHATML.replace("'<|im_end|>'", "(message['content'] | length) ~ '<|im_end|>'"), "E551"),
    "no stop token": (CHATML.replace("<|im_end|>", "<end>"), "E552"),
    "two BOS": ("{{ eos_token }}{{ eos_token }}" + CHATML, ""),
    "other header": (CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<note>"), "E551"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_templates_that_look_at_or_change_contents_are_refused(name: str) -> None:
    source, code = BROKEN[name]
    if not code:
        tokenizer = metaspace(template="{{ bos_token }}" + SHAPES["mistral"].tokenizer.chat_template)
        with pytest.raises(TrueupError, match=r"E551.*BOS"):
            Chat.of(tokenizer)
        return
    with pytest.raises(TrueupError) as caught:
        Chat.of(SHAPES["chatml"].tokenizer, source)
    assert caught.value.code == code, caught.value


def test_a_row_that_a_template_looks_at_is_refused() -> None:
    """A dependence that no probe can know is found in the row that has it: nothing is encoded otherwise."""
    source = CHATML.replace(
        "message['content']", "('no' if 'secret' in message['content'] else message['content'])"
    )
    chat = Chat.of(SHAPES["chatml"].tokenizer, source)
    chat.prompt_ids([Message(Role.USER, "open")])
    with pytest.raises(TrueupError, match="E353"):
        chat.prompt_ids([Message(Role.USER, "secret")])
    with pytest.raises(TrueupError, match="E353"):
        chat.encode(Group(prompt=(Message(Role.USER, "a"),), completions=(Completion(text="secret"),)))


@pytest.mark.parametrize("part", [0, -1])
def test_thoughts_treated_in_unknown_ways_are_refused_row_by_row(part: int) -> None:
    """DeepSeek's and other templates cut thoughts out in their own ways: rows without thoughts are fine."""
    said = f"message['content'].split('</think>')[{part}]"
    chat = Chat.of(SHAPES["qwen3"].tokenizer, CHATML.replace("message['content']", said))
    ask, thought = (Message(Role.USER, "a"),), "<think>\nx\n</think>\n\ny"
    chat.encode(Group(prompt=ask, completions=(Completion(text="fine"),)))
    with pytest.raises(TrueupError, match="E353"):
        chat.encode(Group(prompt=ask, completions=(Completion(text=thought),)))
    with pytest.raises(TrueupError, match="E353"):
        chat.prompt_ids([*ask, Message(Role.ASSISTANT, thought), *ask])


def test_tags_that_a_template_writes_out_are_no_structure() -> None:
    """A template that keeps a last turn's text as it is and strips earlier ones: its tags stay text."""
    keeps = "(message['content'] if loop.last else message['content'].split('</think>')[-1].lstrip('\n'))"
    chat = Chat.of(SHAPES["qwen3"].tokenizer, CHATML.replace("message['content']", keeps))
    assert chat.layout is not None and not chat.layout.thinks
    ids = chat.completion_ids("<think>\nx\n</think>\n\ny")
    assert chat.codec.where_control(ids).tolist() == [len(ids) - 1]


def test_tags_written_out_in_one_shape_of_conversation_only() -> None:
    """Qwen3's, but with a system turn it writes out what was said: the text's tags would pass for its own."""
    source = QWEN3.replace(
        "</think>' in message.content", "</think>' in message.content and messages[0].role != 'system'"
    )
    assert source != QWEN3
    chat = Chat.of(SHAPES["qwen3"].tokenizer, source)
    said = [
        Message(Role.USER, "a"),
        Message(Role.ASSISTANT, "<think>\nx\n</think>\n\ny"),
        Message(Role.USER, "b"),
    ]
    assert chat.layout is not None and chat.layout.thinks and len(chat.prompt_ids(said))
    with pytest.raises(TrueupError, match=r"E551.*writes out the tags"):
        chat.prompt_ids([Message(Role.SYSTEM, "s"), *said])


def test_names_tokens_and_tokenizers_that_do_not_fit() -> None:
    plain = byte_level(("<|endoftext|>",), eos="<|endoftext|>")
    with pytest.raises(TrueupError, match=r"E554.*<\|im_start\|>, <\|im_end\|>"):
        Chat.of(plain, "chatml")
    with pytest.raises(TrueupError, match=r"E554.*no template is named 'chatlm'"):
        Chat.of(plain, "chatlm")
    with pytest.raises(TrueupError, match=r"E554.*not a fast tokenizer"):
        Chat.of(object())
    with pytest.raises(TrueupError, match=r"E350.*template"):
        Chat.of(plain).prompt_ids([Message(Role.USER, "a")])
    with pytest.raises(TrueupError, match="E355"):
        Chat.of(plain, "hh").prompt_ids([Message(Role.USER, "a"), Message(Role.TEXT, "b")])
    with pytest.raises(TrueupError, match="E355"):
        Chat.of(plain, "hh").prompt_ids([])


def test_several_templates_need_a_default() -> None:
    tokenizer = byte_level(IM, eos=IM[2], template=None)
    tokenizer.chat_template = {"default": CHATML, "tool_use": QWEN3}
    assert len(Chat.of(tokenizer).prompt_ids(TALK))
    tokenizer.chat_template = {"tool_use": QWEN3}
    with pytest.raises(TrueupError, match=r"E554.*tool_use"):
        Chat.of(tokenizer)


@pytest.mark.parametrize(
    ("tokenizer", "count"),
    [
        (byte_level(("<b>", "<e>", *IM), bos="<b>", eos="<e>", template=CHATML), 0),
        (byte_level(IM, eos=IM[2], template=CHATML), 0),
        (SHAPES["llama3"].tokenizer, 1),
        (metaspace(("<start_of_turn>", "<end_of_turn>"), template=GEMMA), 1),
    ],
    ids=["by the tokenizer", "none", "by both", "by both, metaspace"],
)
def test_bos_is_counted_as_the_template_has_it(tokenizer: Any, count: int) -> None:
    """A chat has the template's BOS, 0 or 1; a plain text has the tokenizer's, once."""
    chat = Chat.of(tokenizer)
    bos = chat.bos
    once = int(bos is not None)
    assert chat.prompt_ids(TALK).tolist().count(bos) == count
    assert chat.prompt_ids([Message(Role.TEXT, "a")]).tolist().count(bos) == once
    assert bos not in chat.completion_ids("a") and bos not in chat.completion_ids("a", plain=True)


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "mistral", "zephyr", "qwen3", "hh"])
def test_named_templates_begin_as_the_tokenizer_does(name: str) -> None:
    """Once where it puts a BOS before plain texts; not where it has one and does not."""
    needed = NAMED[name].needs
    adding = byte_level(("<b>", "<e>", *needed), bos="<b>", eos="<e>")
    chat = Chat.of(adding, name)
    assert chat.prompt_ids(TALK).tolist()[0] == chat.bos
    assert chat.prompt_ids(TALK).tolist().count(chat.bos) == 1
    assert chat.agreement([TALK]).counts().get("control") is None
    silent = byte_level(("<b>", "<e>", *needed), eos="<e>")
    silent.bos_token = "<b>"
    chat = Chat.of(silent, name)
    assert chat.bos is not None
    assert chat.bos not in chat.prompt_ids(TALK)


def test_the_date_is_fixed_and_part_of_the_digest() -> None:
    tokenizer = SHAPES["llama3"].tokenizer
    chat, later = Chat.of(tokenizer), Chat.of(tokenizer, today=date(2026, 1, 2))
    assert "26 Jul 2024" in chat.codec.decode(chat.prompt_ids(TALK))
    assert "02 Jan 2026" in later.codec.decode(later.prompt_ids(TALK))
    assert chat.template_digest != later.template_digest
    assert chat.template_digest == Chat.of(tokenizer, LLAMA3).template_digest
    assert len(chat.template_digest) == 64


def test_two_processes_make_the_same_ids() -> None:
    """Placeholders come from a digest, not from a random source or the hash seed."""
    chat = Chat.of(SHAPES["qwen3"].tokenizer)
    again = Chat.of(SHAPES["qwen3"].tokenizer)
    assert chat.layout is not None and again.layout is not None
    shape = (("user", "content", "x"),)
    assert chat.layout.placeholder(shape, 0, "content") == again.layout.placeholder(shape, 0, "content")
    assert chat.layout.placeholder(shape, 0, "content") != chat.layout.placeholder(shape, 1, "content")


def test_importing_needs_no_torch() -> None:
    code = (
        "import sys, trueup.chat, trueup.chat.encoder, trueup.chat.preview; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
