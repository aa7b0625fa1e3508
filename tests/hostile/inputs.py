"""Files and words that a command is given and should not have been: how each is made, and how it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import small_world

Make = Callable[[Path], object]
TRAIN = (
    "train",
    "sft",
    "--model.path",
    "good",
    "--data.path",
    "demos.jsonl",
    "--loop.steps",
    "1",
    "--out",
    "o",
)
JUDGE = ("judge", "prefs.jsonl", "judged.jsonl", "--how", "scores", "--by")
ROWS = "demos.jsonl"


def text(name: str, content: str | bytes) -> Make:
    """Writes a file."""
    return lambda at: (at / name).write_bytes(content.encode() if isinstance(content, str) else content)


def pipe(name: str) -> Make:
    """Makes a named pipe that nobody writes to."""
    return lambda at: os.mkfifo(at / name)


def link(name: str, target: str) -> Make:
    """Makes a link."""
    return lambda at: (at / name).symlink_to(target)


def folder(name: str) -> Make:
    """Makes a folder where a file is asked for."""
    return lambda at: (at / name).mkdir()


def both(*makes: Make) -> Make:
    """Makes one after the other."""

    def make(at: Path) -> None:
        for one in makes:
            one(at)

    return make


def nothing(at: Path) -> None:
    """Makes no file: the words of the command are what is wrong."""


def recipe(**stages: object) -> Make:
    """Writes `r.yaml` with some stages; JSON is YAML."""
    return text("r.yaml", json.dumps({"name": "r", "stages": stages}))


def function(body: str, head: str = "def f(prompt, completion):") -> Make:
    """Writes `j.py` with a judge's function."""
    return text("j.py", f"{head}\n    {body}\n")


SFT = {"method": "sft", "model": {"path": "good"}, "data": {"path": ROWS}, "loop": {"steps": 1}}
RUN, BY = ("run", "r.yaml", "--out", "o"), (*JUDGE, "j.py:f")
BOMB = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20))])
INPUTS: dict[str, tuple[Make, tuple[str, ...], str]] = {
    # Recipes and settings.
    "a recipe behind a named pipe": (pipe("r.yaml"), ("train", "r.yaml"), "E710"),
    "a recipe from a device": (link("r.yaml", "/dev/zero"), ("config", "r.yaml"), "E710"),
    "a recipe behind a circle of links": (link("r.yaml", "r.yaml"), ("config", "r.yaml"), "E801"),
    "a recipe that is a folder": (folder("r.yaml"), RUN, "E722"),
    "a recipe of a megabyte": (text("r.yaml", "#" * 1_000_001), RUN, "E710"),
    "a recipe without end": (text("r.yaml", "a: " + "[" * 100_000), RUN, "E710"),
    "a recipe of aliases": (text("r.yaml", BOMB), RUN, "E710"),
    "a recipe that makes an object": (text("r.yaml", "a: !!python/object/apply:os.getcwd []"), RUN, "E710"),
    "a recipe with ESC in a key": (text("r.yaml", 'method: sft\n"\\e[2J": 1'), ("config", "r.yaml"), "E711"),
    "a recipe that is no UTF-8": (text("r.yaml", b"name: \xff"), RUN, "E710"),
    "a recipe of no stages": (recipe(), RUN, "E713"),
    "a recipe whose stages are a list": (text("r.yaml", "name: r\nstages: [sft]"), RUN, "E712"),
    "a stage above the run": (recipe(**{"../../x": SFT}), RUN, "E770"),
    "a stage with a slash before it": (recipe(**{"/tmp/trueup-x": SFT}), RUN, "E770"),
    "a stage called ..": (recipe(**{"..": SFT}), RUN, "E770"),
    "a stage of 4,000 letters": (recipe(**{"x" * 4000: SFT}), RUN, "E710"),
    "a stage with a NUL": (recipe(**{"a\0b": SFT}), RUN, "E770"),
    "a stage with a line's end": (recipe(**{"a\nb": SFT}), RUN, "E770"),
    "a stage that is a hidden file": (recipe(**{".x": SFT}), RUN, "E770"),
    "a stage of other letters": (recipe(**{"étape": SFT}), RUN, "E770"),
    "a reference out of a stage": (
        recipe(sft=SFT, more={**SFT, "data": {"path": "stage:sft/../../../x.jsonl"}}), RUN, "E771",
    ),
    "a reference to no stage": (recipe(sft={**SFT, "data": {"path": "stage:other"}}), RUN, "E708"),
    "a policy above the run": (
        recipe(sft=SFT, end={"method": "evaluate", "policies": {"../x": "stage:sft"}}), RUN, "E770",
    ),
    "a policy called as the base is": (
        recipe(end={"method": "evaluate", "base": "world:base", "policies": {"base": "good"}}), RUN, "E770",
    ),
    "experts above the run": (
        recipe(mix={"method": "mix", "experts": {"../a": "good", "b": "good"}}), RUN, "E770",
    ),
    "a comparison above runs": (
        text("c.yaml", "name: ../c\nshared: {sft: {}}\nmethods: {dpo: {}}"), ("compare", "c.yaml"), "E770",
    ),
    "a method's name that is a path": (nothing, ("train", "../../sft"), "E702"),
    "a number in words": (nothing, (*TRAIN, "--update.lr", "fast"), "E712"),
    "a learning rate below 0": (nothing, (*TRAIN, "--update.lr", "-1"), "E712"),
    "steps without end": (nothing, (*TRAIN[:6], "--loop.steps", "1e400"), "E712"),
    "a batch of 10^30": (nothing, (*TRAIN, "--loop.batch", "1" + "0" * 30), "E712"),
    "a seed of 10^400": (nothing, (*TRAIN, "--seed", "1" + "0" * 400), ""),
    "tokens below 0": (nothing, (*TRAIN, "--data.max_tokens", "-5"), "E712"),
    "a device that is a path": (nothing, (*TRAIN, "--model.device", "../gpu"), "E706"),
    "a run's folder that is a file": (text("o", "x"), TRAIN, "E941"),
    "a run's folder that is a device": (nothing, (*TRAIN[:-1], "/dev/null"), "E941"),
    # A method of the user's own.
    "a method behind a named pipe": (pipe("m.py"), ("train", "m.py"), "E703"),
    "a method from a device": (link("m.py", "/dev/zero"), ("train", "m.py"), "E703"),
    "a method that is a folder": (folder("m.py"), ("train", "m.py"), "E703"),
    "a method that is no Python": (text("m.py", "def ("), ("train", "m.py"), "E704"),
    "a method with a NUL": (text("m.py", b"a = 1\0"), ("train", "m.py"), "E704"),
    "a method without settings": (text("m.py", "a = 1"), ("train", "m.py"), "E704"),
    "a method that ends the program": (text("m.py", "raise SystemExit(0)"), ("train", "m.py"), "E704"),
    "a method nested without end": (text("m.py", "(" * 9000), ("train", "m.py"), "E704"),
    # Judges.
    "a judge that returns text": (function('return "0.5"'), BY, "E793"),
    "a judge that returns true": (function("return True"), BY, "E793"),
    "a judge that returns 10^400": (function("return 10**400"), BY, "E793"),
    "a judge that returns -10^400": (function("return -10**400"), BY, "E793"),
    "a judge that returns NaN": (function('return float("nan")'), BY, "E793"),
    "a judge that returns infinity": (function('return float("inf")'), BY, "E793"),
    "a judge that returns nothing": (function("pass"), BY, "E793"),
    "a judge that returns a list": (function("return [1.0]"), BY, "E793"),
    "a judge that returns a complex number": (function("return 1j"), BY, "E793"),
    "a judge that returns a signalling decimal": (
        function('import decimal; return decimal.Decimal("sNaN")'), BY, "E793",
    ),
    "a judge of too few scores": (
        function("return [0.5]", "def f(prompts, completions, **rest):"), BY, "E793",
    ),
    "a judge of too many scores": (
        function("return [0.5] * 999", "def f(prompts, completions, **rest):"), BY, "E793",
    ),
    "a judge of text for scores": (
        function('return "x" * len(completions)', "def f(prompts, completions, **rest):"), BY, "E793",
    ),
    "a judge of a dictionary": (
        function("return dict.fromkeys(completions)", "def f(prompts, completions, **rest):"), BY, "E793",
    ),
    "a judge that raises": (function("return 1 / 0"), BY, "E799"),
    "a judge that ends the program": (function("raise SystemExit(0)"), BY, "E799"),
    "a judge that calls itself without end": (function("return f(prompt, completion)"), BY, "E799"),
    "a judge whose error says ESC": (function('raise ValueError("\\x1b[2J")'), BY, "E799"),
    "a judge of an odd signature": (function("return 1.0", "def f(a, b, c, d, e):"), BY, "E792"),
    "a judge behind a named pipe": (pipe("j.py"), BY, "E801"),
    "a judge from a device": (link("j.py", "/dev/zero"), BY, "E801"),
    "a judge that does not run": (text("j.py", "import nothing_at_all"), BY, "E792"),
    "a judge with a NUL": (text("j.py", b"def f(): 1\0"), BY, "E792"),
    "a weighted judge of itself": (text("w.yaml", "parts: [{judge: w.yaml}]"), (*JUDGE, "w.yaml"), "E796"),
    "a weighted judge of infinite weight": (
        text("w.yaml", "parts: [{judge: 'rule:length', weight: 1e400}]"), (*JUDGE, "w.yaml"), "E710",
    ),
    "a weighted judge beyond all numbers": (
        both(function("return 10.0"), text("w.yaml", "parts: [{judge: 'j.py:f', weight: 1e308}]")),
        (*JUDGE, "w.yaml"), "E796",
    ),
    "a weighted judge behind a named pipe": (pipe("w.yaml"), (*JUDGE, "w.yaml"), "E801"),
    "a rule without end": (nothing, (*JUDGE, "rule:matches?pattern=(a%2B)%2B$"), ""),
    "a rule that is no pattern": (nothing, (*JUDGE, "rule:matches?pattern=("), "E702"),
    "a rule that is not known": (nothing, (*JUDGE, "rule:../x"), "E792"),
    "a classifier that is no file": (text("t.safetensors", b"\x01" * 9), (*JUDGE, "t.safetensors"), "E812"),
    "a classifier behind a named pipe": (pipe("t.safetensors"), (*JUDGE, "t.safetensors"), "E801"),
    "a server that is not there": (nothing, (*JUDGE, "http://127.0.0.1:9/score#retries=0"), "E794"),
    "a judge without a host": (nothing, (*JUDGE, "http:///score"), "E792"),
    # Data.
    "rows behind a named pipe": (pipe("d.jsonl"), ("data", "check", "d.jsonl"), "E112"),
    "rows from a device": (link("d.jsonl", "/dev/zero"), ("data", "check", "d.jsonl"), "E112"),
    "rows nested without end": (
        text("d.jsonl", "[" * 100_000), ("generate", "good", "--file", "d.jsonl"), "E601",
    ),
    "prompts behind a named pipe": (pipe("d.jsonl"), ("generate", "good", "--file", "d.jsonl"), "E112"),
    "battles behind a named pipe": (pipe("b.jsonl"), ("rank", "b.jsonl"), "E112"),
    "battles that are no rows": (text("b.jsonl", "7\n"), ("rank", "b.jsonl"), "E201"),
    "requests behind a named pipe": (pipe("q.jsonl"), ("refusals", "good", "--data", "q.jsonl"), "E801"),
    "requests without an answer's field": (
        text("q.jsonl", '{"prompt": 1}\n'), ("refusals", "good", "--data", "q.jsonl"), "E206",
    ),
    "problems behind a named pipe": (pipe("p.jsonl"), ("programs", "good", "--data", "p.jsonl"), "E801"),
    "problems that are no rows": (text("p.jsonl", "[]\n"), ("programs", "good", "--data", "p.jsonl"), "E206"),
    "problems cut off": (
        text("p.jsonl.gz", b"\x1f\x8b\x08\x00"), ("programs", "good", "--data", "p.jsonl.gz"), "E110",
    ),
    "a task behind a named pipe": (pipe("t.yaml"), ("eval", "good", "--tasks", "t.yaml"), "E801"),
    "a task above the folder": (
        text("t.yaml", "name: ../../x\nversion: 1\nabout: a\nreference: b\nscore: sum\nquery: q\n"
             "choices: [' a', ' b']\nanswer: 0\n"), ("eval", "good", "--tasks", "t.yaml"), "E770",
    ),
    "a task of attributes": (
        text("t.yaml", "name: t\nversion: 1\nabout: a\nreference: b\nscore: sum\nanswer: 0\n"
             "query: '{x.__class__.__mro__}'\nchoices: [' a', ' b']\n"),
        ("eval", "good", "--tasks", "t.yaml", "--data.t", ROWS), "E203",
    ),
    "a world behind a named pipe": (pipe("w.yaml"), ("toxicity", "good", "--world", "w.yaml"), "E710"),
    "a world that is no world": (text("w.yaml", "a: 7"), ("toxicity", "good", "--world", "w.yaml"), "E711"),
    # Words.
    "a temperature that is none": (nothing, ("generate", "good", "hi", "--temperature", "nan"), "E700"),
    "tokens without end": (nothing, ("generate", "good", "hi", "--max-new-tokens", "9" * 30), "E560"),
    "no completions": (nothing, ("generate", "good", "hi", "--num", "0"), "E700"),
    "a model that is a device": (nothing, ("generate", "/dev/zero", "hi"), "E801"),
    "a model with a NUL": (nothing, ("generate", "a\0b", "hi"), "E801"),
    "a model of 5,000 letters": (nothing, ("generate", "a" * 5000, "hi"), "E942"),
    "a model with ESC": (nothing, ("generate", "./\x1b[2J", "hi"), "E801"),
    "a GGUF file behind a named pipe": (pipe("m.gguf"), ("generate", "m.gguf", "hi"), "E801"),
    "a GGUF file from a device": (link("m.gguf", "/dev/zero"), ("generate", "m.gguf", "hi"), "E801"),
    "a template that is a path": (nothing, ("generate", "good", "hi", "--template", "../../x"), "E554"),
    "mixtures of no weights": (nothing, ("soup", "good", "good", "--out", "s", "--weights", "nan,1"), "E736"),
    "mixtures of words": (nothing, ("soup", "good", "good", "--out", "s", "--weights", "a,b"), "E736"),
    "an export over a file": (text("x", "x"), ("export", "good", "x"), "E847"),
    "a report of nothing": (folder("r"), ("report", "r"), "E847"),
    "a report of a named pipe": (pipe("r"), ("report", "r"), "E847"),
}  # fmt: skip
"What is made, what is typed, and the code of the error;  where it is no error."


def prepare(at: Path, good: Path) -> None:
    """Nothing; the folder holds a small model and rows."""
    (at / "good").symlink_to(good)
    small_world.write(at / ROWS, small_world.demonstrations())
    small_world.write(at / "prefs.jsonl", small_world.preferences(4))
