"""Writes the pages that the code itself knows: docs/cli.md, docs/choosing.md,
docs/learning-rates.md and docs/option-names.md.

python scripts/make_cli_docs.py          writes the pages
python scripts/make_cli_docs.py --check  exits with 1 when a page is not what would be written
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App
from rich.console import Console

import trueup.methods
from trueup.commands.app import app
from trueup.runs.rates import in_words
from trueup.settings import discover
from trueup.settings.aliases import ALIASES
from trueup.settings.config import Alias, Answer
from trueup.update.rates import ADAPTER, FAR, MOST, SIZES, TABLE

DOCS = Path(__file__).resolve().parents[1] / "docs"
WIDTH = 96

CLI = """# Every command

This page is the output of `--help`, written by `scripts/make_cli_docs.py`. [First steps](start.md) shows the
commands at work; `trueup init METHOD` prints every setting that `train`, `run` and `config` take as
`--key.path value`.

An error is one line: `error CODE WHERE — REASON — REMEDY`. Exit codes: 0 done, 64 wrong usage or settings,
65 wrong data, a judge's function that fails, or a number that is not finite, 66 something missing, 69
something unreachable, 70 a fault of trueup itself, 74 the disk, 75 stopped and saved (the same command goes
on), 79 people are to answer first. With `TRUEUP_TRACEBACK=1` a fault of trueup itself shows
where it happened.
"""

NAMES = """# Option names of other toolkits

`trueup train`, `config`, `init` and `preview`, `trueup.fit`, and the files given to them take names of TRL,
axolotl, LLaMA-Factory and OpenRLHF at the top level, for people who type them from memory. Giving a setting
under two names is an error. A name that a method has itself (`beta` of DPO) is that setting; where a row
names several, it is the first that the method has. This page is written by `scripts/make_cli_docs.py`.

## Names that are settings

| you type | it sets |
|---|---|
"""
ANSWERED = """
## Names that are answered

What these mean is elsewhere, or is not here. Each is error E711 with the sentence; `null`, and a value that
changes nothing, is passed over.

| you type | the answer | passed over |
|---|---|---|
"""


CHOOSING = """# Choosing a method

Start from what you have. This page is written by `scripts/make_cli_docs.py` from the methods themselves;
`trueup methods` prints the same, `trueup methods --json` gives it to programs, `trueup show NAME` reads one
aloud down to the loop, and `trueup compare` measures them side by side on your data.

| you have | begin with | then |
|---|---|---|
| demonstrations | `sft` | any of the below |
| comparisons or rankings | `dpo`, or `ipo` where labels are certain | `simpo`, `orpo` need no reference |
| completions marked good or bad one by one | `kto` | |
| responses of several models, ranked or scored | `rrhf` | `slic_hf` |
| comparisons, and prompts to sample on | `reward_model`, `best_of_n` | `raft`, `rloo`, `ppo` |
| a rule or a program that scores | `grpo`, `rloo` | `gspo`, `cispo`, `reinforce_pp`, `ppo` |
| solutions whose steps were judged | `prm`, a judge of steps | `best_of_n`, `grpo` |
| a better model, or a prompt that works | `distill`, `context_distillation` | |
| written principles, and a model that can judge | [Constitutional AI](constitutional-ai.md) | |
| written principles, and a base model alone | [SELF-ALIGN](self-align.md) | |
| several rewards that pull apart | [soups](soups.md), one training a reward | MORL, one a preference |

In our own [comparison](../results/methods.md) two ended below the SFT model that they started from:
`hir` by .437 of gold, 95 % over three seeds [.343, .530], since a small model does not know the instruction
line that it is asked under; and `seq2seq_hinge` on sums by .228 [.125, .331], since sums without a
reference prefer length (`per_token: true` does not).

"""


def choosing() -> str:
    """The family by what each member needs, and each as one line of stages."""
    said = {name: discover.constants(name) for name in discover.names()}
    out = [re.sub(r"`(\w+)`", lambda m: link(m[1]) if m[1] in said else m[0], CHOOSING)]
    for family in discover.FAMILIES:
        members = [name for name, about in said.items() if about["FAMILY"] == family]
        if not members:
            continue
        out.append(
            f"## {family.capitalize()}\n\n| method | what it does | needs | models |\n|---|---|---|---|\n"
        )
        for name in members:
            about = said[name]
            needs = ", ".join(about["NEEDS"])
            out.append(f"| {link(name)} | {about['SUMMARY']} | {needs} | {about['COPIES']} |\n")
        chains = [f"{name:<21} {chain}\n" for name in members if (chain := stages_of(name))]
        out.append("\n```text\n" + "".join(chains) + "```\n\n" if chains else "\n")
    out.append("## What they need\n\n| need | meaning |\n|---|---|\n")
    out.extend(f"| {need} | {meaning} |\n" for need, meaning in discover.NEEDS.items())
    out.append("\n`models` counts the copies of the weights that a run holds without LoRA.\n")
    return "".join(out)


def link(name: str) -> str:
    """A method's name as a link to its page."""
    return f"[`{name}`](methods/{name}.md)"


def stages_of(name: str) -> str:
    """What a method's `build` says of itself: `files -> reference log-probs -> DPO`."""
    path = Path(trueup.methods.__path__[0]) / f"{name}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name in ("build", "run"):
            first = (ast.get_docstring(node) or "").splitlines()[0]
            return first.removeprefix("The method: ").rstrip(".") if "->" in first else ""
    return ""


def commands(found: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, `()` for the whole, groups before what is in them."""
    yield path
    for name in found:
        if not name.startswith("-"):
            yield from commands(found[name], (*path, name))


def help_of(words: tuple[str, ...]) -> str:
    """What `trueup WORDS --help` prints, without colour and without spaces at the ends of lines."""
    out = io.StringIO()
    app.help_print(words, console=Console(file=out, width=WIDTH, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def cli_page() -> str:
    """The page of all commands."""
    parts = [CLI]
    for words in commands(app):
        parts.append(f"## `{' '.join(('trueup', *words))}`\n\n```text\n{help_of(words)}\n```\n")
    return "\n".join(parts)


def names_page() -> str:
    """The page of all aliases."""
    rows, answered = [], []
    for name, to in ALIASES.items():
        if isinstance(to, Answer):
            answered.append(f"| `--{name}` | {to.says} | {', '.join(map(_plain, to.unless))} |")
            continue
        alias = Alias(to) if isinstance(to, str) else to
        keys = " or ".join(f"`{key}`" for key in (alias.key, *alias.also))
        values = ""
        if alias.values is not None:
            pairs = (f"`{_plain(given)}` is `{_plain(meant)}`" for given, meant in alias.values.items())
            values = f": {', '.join(pairs)}"
        rows.append(f"| `--{name}` | {keys}{values} |")
    return NAMES + "\n".join(rows) + "\n" + ANSWERED + "\n".join(answered) + "\n"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


RATES = """# Learning rates

`update.lr` is `auto` until you name a number. A run then takes one from this table by its method, the number
of its model's weights, told from the headers of its files or from `config.json`, and whether an adapter is
trained. `trueup config` and the run's first line show it, `config.resolved.yaml` keeps it, and
`trueup init METHOD --model.path MODEL` writes it beside the setting:

```console
$ trueup init dpo --model.path my-model
```

It is where a sweep begins, not where it ends: `trueup compare` chooses among rates on your data. A number
more than {far:g} times off the table is used, and warned of. A run that has begun goes on with the rate in
its folder.

| training | methods | {sizes} | from |
|---|---|---|---|---|---|
{rows}

Between these sizes the logarithm of the rate is linear in the logarithm of the size; above 7 B it goes on
along the last line, below 1 M it stays. The first column is what the lab's sweeps chose among
([results](../results/methods.md)). An adapter takes {adapter:g} times the rate of full weights and no
more than {most:g}, unless full weights take that too (Schulman and Thinking Machines Lab 2025, *LoRA Without
Regret*; the published LoRA rates in the last column agree). TRPO's policy needs no rate; its critic has one.

A method in a file of your own takes the row of the `FAMILY` that it names.

| code | meaning |
|---|---|
| E764 | no rate is known for the method: name one |
| E765 | the model's configuration does not tell its size: name a rate |
"""


def rates_page() -> str:
    """The table of learning rates."""
    named = [name for row in TABLE for name in row.methods]
    rows = []
    for row in TABLE:
        inside = [n for n in discover.names() if n in row.methods or _belongs(n, row.family, named)]
        rates = " | ".join(f"{rate:g}" for rate in row.rates)
        rows.append(f"| {row.name} | {', '.join(map(link, inside))} | {rates} | {row.sources} |")
    sizes = " | ".join(in_words(size) for size in SIZES)
    return RATES.format(sizes=sizes, rows="\n".join(rows), adapter=ADAPTER, most=MOST, far=FAR)


def _belongs(name: str, family: str, named: list[str]) -> bool:
    trains = "update: AdamW" in inspect.getsource(discover.find(name))
    return name not in named and trains and discover.constants(name)["FAMILY"] == family


PAGES = {
    "choosing.md": choosing,
    "cli.md": cli_page,
    "learning-rates.md": rates_page,
    "option-names.md": names_page,
}


def main(arguments: list[str]) -> int:
    """0, or 1 when `--check` finds a page that is out of date."""
    stale = 0
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"docs/{name} is out of date: run python scripts/make_cli_docs.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
