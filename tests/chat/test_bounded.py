"""Templates of strangers: what gets out of the sandbox, and what they may spend of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from chat_shapes import CHATML, IM, byte_level, shapes, shipped
from trueup.chat import Chat, bounded
from trueup.chat.render import Template
from trueup.engine.groups import Message, Role, ToolCall
from trueup.errors import TrueupError

ASK = [Message(Role.USER, "one")]
# Each would write a file named canary where it runs, or show something of Python's insides.
WAYS_OUT = (
    "''.__class__.__mro__[1].__subclasses__()",
    "().__class__.__base__.__subclasses__()",
    "{}.__class__.__bases__[0].__subclasses__()",
    "messages.__class__.__base__.__subclasses__()",
    "messages[0].__class__.__init__.__globals__",
    "messages[0].content.__class__",
    "messages[0]['content']['__class__']",
    "messages[0].content.__getattribute__('__class__')",
    "messages[0] | attr('__class__')",
    "'%s' | attr('__class__') | attr('__mro__')",
    "('' | attr('\\x5f\\x5fclass\\x5f\\x5f')).x",
    "''['\\x5f\\x5fclass\\x5f\\x5f'].x",
    "cycler.__init__.__globals__.os.popen('touch canary').read()",
    "joiner.__init__.__globals__.os.system('touch canary')",
    "lipsum.__globals__['os'].popen('touch canary').read()",
    "lipsum.__globals__.__builtins__.open('canary', 'w')",
    "namespace.__init__.__globals__['__builtins__']['open']('canary', 'w')",
    "namespace(__class__='x')",
    "namespace(**{'__init__': 1})",
    "dict.__class__.__mro__",
    "dict.fromkeys.__globals__.x",
    "dict.__call__.__func__.__globals__.x",
    "raise_exception.__globals__['sys'].modules",
    "raise_exception.__code__.co_consts",
    "strftime_now.__self__.__class__.__subclasses__()",
    "strftime_now.__class__.__base__",
    "range.__class__.__mro__",
    "self.__init__.__globals__.x",
    "self._TemplateReference__context.environment.globals",
    "self.__dict__.x",
    "loop.__init__.__globals__.x",
    "''.format.__globals__.x",
    "'{0.__class__.__mro__[1]}'.format('')",
    "'{x.__class__.__base__}'.format_map({'x': 1})",
    "('{0.__class__}' | format('')).__class__.x",
    "(messages | map(attribute='__class__') | list)[0].x",
    "(messages | map('attr', '__class__') | list)[0].x",
    "(messages | groupby('__class__') | list)[0].grouper.x",
    "(messages | sort(attribute='__class__.__name__'))[0].__class__.x",
    "(messages | selectattr('__class__') | first).__class__.x",
    "(messages | first | items | first).__class__.x",
    "[].append.__self__.__class__.x",
    "messages.append(1)",
    "messages.pop()",
    "messages[0].update({'content': 'x'})",
    "messages[0].clear()",
    "(1).__class__.__base__.__subclasses__()",
    "none.__class__.__base__.__subclasses__()",
    "true.__class__.mro()",
    "messages.__reduce_ex__(2)",
)
STATEMENTS = (
    "{% import 'os' as os %}{{ os.system('touch canary') }}",
    "{% from 'os' import system %}{{ system('touch canary') }}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% set x = namespace() %}{% set x.__class__ = 1 %}",
    "{% macro m() %}{{ caller.__globals__.x }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__.x }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__.x }}",
    "{% for m in messages %}{{ loop._iterable.x }}{% endfor %}",
    "{% set x %}{{ lipsum.__globals__ }}{% endset %}",
)
NESTED = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
BOMBS = {
    "nested loops": (NESTED + "{% endfor %}{% endfor %}{% endfor %}", "E365"),
    "loops that write": (NESTED + "xxxxxxxxxx{% endfor %}{% endfor %}{% endfor %}", "E365"),
    "5 GB of text": ("{% set x = 'a' * 5000000000 %}{{ x | length }}", "E365"),
    "5 GB, not constant": ("{% set x = messages[0].role * 5000000000 %}", "E365"),
    "doubling": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "E365",
    ),
    "doubling of a list": (
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "E365",
    ),
    "doubling by ~": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "E365",
    ),
    "range": ("{{ range(10 ** 9) | list | length }}", "E550"),
    "many ranges": ("{% for i in range(99999) %}{% set x = range(99999) | list %}{% endfor %}", "E365"),
    "power": ("{% set x = 9 ** (9 ** (9 ** 9)) %}", "E365"),
    "format": ("{{ '%*d' | format(2000000000, 1) }}", "E365"),
    "format of a text": ("{{ '{:>2000000000}'.format(1) }}", "E365"),
    "percent": ("{{ '%2000000000d' % 1 }}", "E365"),
    "center": ("{{ 'x' | center(2000000000) }}", "E365"),
    "ljust": ("{{ 'x'.ljust(2000000000) }}", "E365"),
    "zfill": ("{{ 'x'.zfill(2000000000) }}", "E365"),
    "expandtabs": ("{{ ('\\t' * 1000).expandtabs(2000000) }}", "E365"),
    "indent": ("{{ 'a\\nb' | indent(2000000000) }}", "E365"),
    "json": ("{{ [1, [2]] | tojson(indent=1000000000) }}", "E365"),
    "join": ("{{ (['x'] * 50000000) | join('y' * 1000) }}", "E365"),
    "join of many": ("{{ (['x' * 10000] * 1000000) | join }}", "E365"),
    "replace": ("{{ ('a' * 100000) | replace('a', 'b' * 100000) }}", "E365"),
    "batch": ("{{ [1] | batch(1000000000, 'x') | list | length }}", "E365"),
    "slice": ("{{ [1] | slice(1000000000) | list | length }}", "E365"),
    "lorem": ("{{ lipsum(n=10000000) }}", "E365"),
    "macro that calls itself": ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "E550"),
    "macro that calls itself twice": (
        "{% macro m(n) %}{% if n < 60 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}",
        "E365",
    ),
    "loop that calls itself": (
        "{% for a in [messages] recursive %}{{ loop([messages]) }}{% endfor %}",
        "E550",
    ),
    "nested brackets": ("{{ " + "(" * 100_000 + ")" * 100_000 + " }}", "E550"),
    "nested blocks": ("{% if 1 %}" * 5000 + "{% endif %}" * 5000, "E550"),
    "long output": ("{% for i in range(9999) %}" + "x" * 10_000 + "{% endfor %}", "E365"),
}


def refusal(source: str) -> TrueupError:
    with pytest.raises(TrueupError) as caught:
        Chat.of(byte_level(IM, eos=IM[2], template=source + CHATML)).prompt_ids(ASK)
    return caught.value


def child() -> int | None:
    return bounded._child and bounded._child.process.pid


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("source", [*(f"{{{{ {way} }}}}" for way in WAYS_OUT), *STATEMENTS])
def test_sixty_ways_out_of_the_sandbox_lead_nowhere(source: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Refused, or nothing is shown of what was asked for; in the process, as a template of ours would be."""
    from trueup.chat import woven

    monkeypatch.chdir(tmp_path)
    reply = woven.render(
        {
            "source": source,
            "variables": {},
            "today": "2024-07-26",
            "messages": [{"role": "user", "content": "one"}],
            "tools": None,
            "generation": True,
            "holes": [],
            "parts": False,
        }
    )
    said = "".join(reply.get("pieces", ()))
    assert "error" in reply or not [word for word in ("class", "object", "function", "0x") if word in said]
    assert not list(tmp_path.iterdir())
    if "canary" in source:
        assert reply["error"] in ("security", "failed", "refused")


def spent_by_children(work: Any) -> tuple[Any, float]:
    """What some work returns, and the seconds of work of the children that ended in it."""
    bounded.close()
    before = os.times()
    made = work()
    bounded.close()
    after = os.times()
    return made, sum(after[2:4]) - sum(before[2:4])


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error_within_its_bounds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child that is gone afterwards; the next template is rendered as if nothing had been."""
    monkeypatch.setattr(bounded, "SECONDS", 0.2)
    source, code = BOMBS[name]
    error, seconds = spent_by_children(lambda: refusal(source))
    assert error.code.startswith(code), error
    assert error.code != "E365" or "more than 0.2 s" in error.reason or "more than 512 MiB" in error.reason
    assert seconds < 1.2, "the bound, and the start of a child"
    assert Chat.of(shapes()[0].tokenizer).prompt_ids(ASK).size


def test_the_bound_is_two_seconds() -> None:
    error, seconds = spent_by_children(lambda: refusal("{# two seconds #}" + BOMBS["nested loops"][0]))
    assert error.code == "E365" and "more than 2 s" in error.reason
    assert 1.9 < seconds < 3.2


def test_a_rendering_that_is_ended_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.2)
    Chat.of(shapes()[0].tokenizer)
    process = child()
    assert process is not None and alive(process)
    refusal(BOMBS["nested loops"][0])
    assert not alive(process) and child() is None


def test_the_trials_of_a_template_together_have_two_seconds() -> None:
    """Each rendering stays below the bound, and there are dozens of them when a template is opened."""
    slow = "{% for a in range(9999) %}{% for b in range(1200) %}{% endfor %}{% endfor %}"
    error, seconds = spent_by_children(lambda: refusal(slow))
    assert error.code == "E365" and "more than 2 s" in error.reason
    assert seconds < 3.2


def test_a_template_that_waits_for_its_prey_is_asked_three_times(monkeypatch: Any) -> None:
    """It behaves while it is tried, and loops on longer conversations: rows cannot be made to cost more."""
    monkeypatch.setattr(bounded, "SECONDS", 0.2)
    trap = "{% if messages | length > 4 %}" + BOMBS["nested loops"][0] + "{% endif %}"
    chat = Chat.of(byte_level(IM, eos=IM[2], template=trap + CHATML))
    assert chat.prompt_ids(ASK).size
    for number in range(6):
        talk = [Message(Role.USER, "one"), Message(Role.ASSISTANT, "two")] * (2 + number) + ASK
        with pytest.raises(TrueupError, match=r"E365.*asked no more" if number >= 3 else "E365"):
            chat.prompt_ids(talk)
    assert chat.prompt_ids(ASK).size, "what is known already still is"


def test_no_child_outlives_a_process_however_it_ends() -> None:
    """It ends with the process, by itself where that is killed."""
    code = (
        "import os, sys; sys.path[:0] = {path!r}; from trueup.chat import bounded;"
        "bounded.render('k', 'x', dict(variables=dict(), today='2024-07-26', messages=[], tools=None,"
        " generation=True, holes=[], parts=False)); print(bounded._child.process.pid, flush=True); {end}"
    )
    path = [p for p in sys.path if p]
    for end in ("pass", "os._exit(1)", "os.kill(os.getpid(), 9)", "raise SystemExit(2)"):
        run = [sys.executable, "-c", code.format(path=path, end=end)]
        process = int(subprocess.run(run, capture_output=True, text=True, check=False).stdout)
        until = time.monotonic() + 10
        while alive(process) and time.monotonic() < until:
            time.sleep(0.01)
        assert not alive(process), end


def test_memory_is_watched_where_the_system_keeps_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: a child that holds more than its share is ended from outside."""
    bounded.close()
    monkeypatch.setattr(bounded, "MEMORY", 8 << 20)  # Less than an interpreter has.
    monkeypatch.setattr(bounded, "_started", lambda start=bounded._started: _unheld(start))
    error = refusal("{# watched #}" + BOMBS["nested loops"][0])
    assert error.code == "E365" and "more than 8 MiB of memory" in error.reason
    bounded.close()


def _unheld(start: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "MEMORY", 512 << 20)
        made = start()
    made.held = False
    return made


def test_a_fork_has_a_child_of_its_own() -> None:
    Chat.of(shapes()[0].tokenizer, CHATML + "{# a fork #}")
    process, (read, write) = child(), os.pipe()
    fork = os.fork()
    if fork == 0:
        try:
            Chat.of(shapes()[0].tokenizer, CHATML + "{# a fork's #}")
            os.write(write, str(child()).encode())
            bounded.close()
        finally:
            os._exit(0)
    os.waitpid(fork, 0)
    assert int(os.read(read, 99)) != process and child() == process
    assert process is not None and alive(process)


# ------------------------------------------------------------------------------ the same text as elsewhere


def theirs(source: str, variables: dict[str, Any], **told: Any) -> str:
    """A rendering by transformers itself, whose environment ours is like."""
    from transformers.utils.chat_template_utils import render_jinja_template

    conversation = told.pop("messages")
    shown, _ = render_jinja_template([conversation], chat_template=source, **variables, **told)
    return shown[0]


SAID = (
    "one",
    "  two\n",
    "",
    "a </think> b",
    "<think>\nx\n</think>\n\ny",
    "{{ x }} {% y %}",
    "漢\u2028é",
    "</s>",
)
SHOWN = {
    "filters": "{{ messages[0].content | trim | upper }}{{ [1, {'a': 'é'}] | tojson(indent=2) }}",
    "joins": "{{ 1 ~ messages[0].content ~ none ~ [1, 'a'] ~ true ~ missing }}{{ 1.0 }}{{ none }}{{ {} }}",
    "macro": "{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(messages[0].content) | length }}{{ m(1) + 'a' }}",
    "blocks": "{% set x %}a{{ messages[0].content }}{% endset %}{{ x | replace('a', 'b') }}"
    "{% filter upper %}x{{ x }}{% endfilter %}"
    "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}",
    "loops": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ loop.index }}"
    "{{ m.content }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
    "names": "{% set n = namespace(a=1) %}{% for m in messages %}{% set n.a = n.a + 1 %}{% endfor %}{{ n.a }}"
    "{{ dict(a=1) }}{{ dict.fromkeys(['x']) }}{{ namespace(self=2).self }}",
    "tests": "{{ messages[0].content is string }}{{ messages is sequence }}{{ messages[0] is mapping }}",
    "white space": "  {% if true %}\n  a\n  {%- endif %}\n b \n{% set x = 1 %}\nc",
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_template_writes_what_transformers_lets_it_write(name: str) -> None:
    template = Template(name=name, source=SHOWN[name], variables={}, today=date(2024, 7, 26))
    talk = [{"role": "user", "content": text} for text in SAID]
    for k in range(len(talk)):
        ours = template.run(talk[k:], generation=True)
        assert ours == theirs(SHOWN[name], {}, messages=talk[k:], add_generation_prompt=True)


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "llama3_1", "gptoss"])
def test_the_parsed_form_says_what_transformers_renders(name: str) -> None:
    """For contents of many kinds: what the parsed form gives is the text, and it is used where it can be."""
    tokenizer = shipped(name)
    chat = Chat.of(tokenizer)
    assert chat.layout is not None
    template, used = chat.layout.template, 0
    for text in SAID:
        talk = [("user", text), ("assistant", "yes"), ("user", "w" + text), ("assistant", text + "w")]
        for turns in (talk[:1], talk[:3], talk):
            said = [{"role": role, "content": content} for role, content in turns]
            generation = turns[-1][0] == "user"
            shown = chat.layout.text(turns, generation=generation)
            if "strftime_now" not in template.source:  # Theirs is today's.
                assert shown == theirs(
                    template.source,
                    dict(template.variables),
                    messages=said,
                    add_generation_prompt=generation,
                )
            assert shown == template.render(turns, generation=generation)
            used += chat.layout._from_parsed(turns, generation) is not None
    assert used >= 12, "the parsed form is the rule"


# Each reads a content in another way; the parsed form must know that it did.
READS = (
    "{% if 'secret' in m.content %}no{% endif %}",
    "{% if m.content == 'secret' %}no{% endif %}",
    "{% if m.content != 'secret' %}no{% endif %}",
    "{% if 'secret' == m.content %}no{% endif %}",
    "{% if m.content in ['secret', 'x'] %}no{% endif %}",
    "{% if m.content.startswith('sec') %}no{% endif %}",
    "{% if m.content.startswith(('sec', 'x')) %}no{% endif %}",
    "{% if (m.content | trim).endswith('ret') %}no{% endif %}",
    "{{ m.content | length }}",
    "{{ m.content | upper | replace('SECRET', 'x') }}",
    "{{ m.content[:3] }}",
    "{{ m.content.split('c')[0] }}",
    "{% for letter in m.content %}{{ letter }}-{% endfor %}",
    "{{ m.content | int(7) }}",
    "{{ '%d' % (m.content | length) }}",
    "{{ {'secret': 1}.get(m.content, 2) }}",
    "{{ {'secret': 1}[m.content] is defined }}",
    "{{ m.content < 't' }}",
    "{{ [m.content, 'secret'] | unique | list | length }}",
    "{{ m.content | wordcount }}",
    "{{ 'secret and more'.startswith(m.content) if m.content else '' }}",
    "{{ m.content in 'secret and more' }}",
    "{% set x = 'a' ~ m.content %}{{ 'secret' in x }}",
    "{% macro f(y) %}{{ y }}{% endmacro %}{{ 'secret' in f(m.content) }}",
    "{% set x %}{{ m.content }}{% endset %}{{ 'secret' in x }}",
    "{% filter replace('secret', 'x') %}{{ m.content }}{% endfilter %}",
    "{{ m.content | tojson | length }}",
    "{{ m.content.split is defined and m.content.isalpha() }}",
    "{{ (m.content ~ '') == 'secret' }}",
    "{{ m | string | length }}",
    "{{ (m.content | trim('s')) }}",
    "{{ messages | map(attribute='content') | join('') == 'secret' }}",
    "{{ m.content | default('x', true) | first }}",
    "{{ m.content | e | length }}",
    "{{ m.content is lower }}",
    "{{ m.content.__len__ is defined }}{{ m.content is eq 'secret' }}",
)


@pytest.mark.parametrize("reads", READS)
def test_no_reading_of_a_content_goes_unnoticed(reads: str) -> None:
    """The same text by the parsed form and by a rendering of the row, whatever the row says."""
    from trueup.chat.render import Layout

    source = "{% for m in messages %}{{ m.content }}:" + reads + "|{% endfor %}"
    layout = Layout(Template(name="reads", source=source, variables={}, today=date(2024, 7, 26)))
    differ = set()
    for text in ("open", "secret", " secret", "7", "", "s", "a secret.", "Secret", "zebra"):
        try:
            shown = layout.text([("user", text)], generation=True)
        except TrueupError as error:
            shown = error.code
        try:
            truth = layout.template.render([("user", text)], generation=True)
        except TrueupError as error:
            truth = error.code
        assert shown == truth, text
        differ.add(truth.replace(text, ""))
    assert len(differ) > 1 or "E550" in differ, "the template does look"


def test_the_child_is_told_a_template_once() -> None:
    """The second rendering sends the conversation alone."""
    sent: list[int] = []
    template = Template(name="t", source="x" * 100_000, variables={}, today=date(2024, 7, 26))
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            real = bounded._exchanged
            patch.setattr(bounded, "_exchanged", lambda c, s, r=real: sent.append(len(s)) or r(c, s))
            assert template.run([], generation=True) == "x" * 100_000
    assert [size > 100_000 for size in sent if size] == [True, False]


def test_ordinary_rows_cost_no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred conversations of one shape: one rendering for the prompt and one for the whole."""
    asked: list[Any] = []
    real = bounded.render
    for shape in shapes():
        chat = Chat.of(shape.tokenizer, shape.template)
        chat.prompt_ids(ASK)
        monkeypatch.setattr(bounded, "render", lambda *a: asked.append(json.dumps(a[2])) or real(*a))
        for number in range(100):
            chat.prompt_ids([Message(Role.USER, f"number {number}"), Message(Role.ASSISTANT, "a"), *ASK])
            chat.completion_ids(f"it is {number}")
        monkeypatch.setattr(bounded, "render", real)
    assert len(asked) <= len(shapes())


def test_a_row_with_tools_has_the_seconds_of_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in up to four forms, each of which stays below the bound: together they do not."""
    loops = "{% for a in range(9999) %}{% for b in range(1200) %}{% endfor %}{% endfor %}"
    chat = Chat.of(byte_level(IM, eos=IM[2], template="{% if tools %}" + loops + "{% endif %}" + CHATML))
    monkeypatch.setattr(bounded, "SECONDS", 0.5)
    ask = Message(Role.USER, "one", tools='[{"type": "function", "function": {"name": "f"}}]')
    call = Message(Role.ASSISTANT, "", tool_calls=(ToolCall("f", "{}"),))

    def refused() -> None:
        with pytest.raises(TrueupError, match="E365"):
            chat.prompt_ids([ask, call, Message(Role.TOOL, "two")])

    assert spent_by_children(refused)[1] < 1.5
