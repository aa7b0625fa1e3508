"""The commands that collect what people say."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from trueup.commands.early import check_models
from trueup.commands.options import Count, Json, NotNegative, Positive, answer, say
from trueup.commands.serve import Port, listening_at, run_until_stopped
from trueup.errors import TrueupError, counted

if TYPE_CHECKING:
    from trueup.collecting.open import Opened

Project = Annotated[Path, Parameter(help="The YAML file of a project; docs/collect.md says what it holds.")]

Kind = Literal["compare", "rank", "rate", "demonstrate", "critique", "converse", "prompts"]

app = App(name="collect", help="Collect what people say: an app in the browser that trains what it collects.")


@app.default
def collect(
    project: Project,
    /,
    *,
    port: Port = 8200,
    host: str = "127.0.0.1",
    site: str = "",
    kind: Literal["", Kind] = "",
    open_page: Annotated[bool, Parameter(name="--open", negative="")] = False,
) -> None:
    """Serve a project to its annotators: they compare, rank, rate, write and talk to models in a browser.

    It listens on 127.0.0.1 alone, and prints a link that lets you in as the owner; links for others are made
    on the page People. Everything said is on the disk before the page goes on. Ctrl-C ends it, and the same
    command goes on. It needs the extra trueup[collect].

    Parameters
    ----------
    port
        Where it listens; 0 is any free port.
    host
        Another address of this machine for people from elsewhere; with --site.
    site
        What those people type: https://NAME, of a proxy for TLS.
    kind
        Give out tasks of this kind alone: `--kind prompts` has people write prompts.
    open_page
        Open the page in this machine's browser.
    """
    from trueup.collecting.open import check_site, open_project

    check_site(host, site)
    opened = open_project(project)
    for block in opened.project.tasks.values():
        check_models(*(ref for ref in block.converse.models.values() if not ref.startswith("openai:")))
    server = opened.server(site, kind)
    place = listening_at(port, host)
    here = f"http://127.0.0.1:{place.getsockname()[1]}"
    url = f"{site or here}/join/{opened.people.invite('owner', 'owner', stays=True)}"
    say(*opened.said, f"collecting for {opened.project.name} in {opened.store.place}")
    say(f"your link, which lets whoever has it in as owner: {url}", "(Ctrl-C ends it)")
    if open_page:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    run_until_stopped(server, place, "stopped; the same command goes on")


@app.command
def invite(
    project: Project,
    /,
    name: str,
    *,
    role: Literal["annotator", "lead", "owner"] = "annotator",
    group: str = "",
    site: str = "http://127.0.0.1:8200",
) -> None:
    """Print a link that lets somebody in; it makes an earlier link of theirs void.

    Parameters
    ----------
    name
        Under which their answers are kept.
    group
        The group of people whose values theirs stand for.
    site
        What the link begins with.
    """
    token = _opened(project).people.invite(name, role, group)
    say(f"{site.rstrip('/')}/join/{token}")


@app.command
def export(
    project: Project,
    /,
    *,
    out: Path,
    log: Path | None = None,
    group: str | None = None,
    kind: Kind | None = None,
    as_json: Json = False,
) -> None:
    """Write what was said so far as groups, at any moment, also while the app is used.

    `data.path: collect:STORE` in a recipe reads the same rows without a file.

    Parameters
    ----------
    out
        A .jsonl file.
    log
        Also write the log of everything that happened, one event a line.
    group
        Only what this group of people said; a recipe reads the same from `collect:STORE?group=NAME`.
    kind
        Only tasks of this kind; `collect:STORE?kind=KIND` in a recipe.
    """
    from trueup.collecting.exports import export as written
    from trueup.collecting.exports import write_events

    store = _opened(project).store
    groups, latest = written(store, out, group, kind)
    said = [f"{counted(groups, 'group')} written to {out}", f"as the project was after event {latest}"]
    if log is not None:
        said.append(f"{counted(write_events(store, log), 'event')} written to {log}")
    answer({"groups": groups, "until": latest, "out": str(out)}, said, as_json)


@app.command(name="round")
def further_round(
    project: Project,
    block: str,
    /,
    *,
    model: tuple[str, ...],
    prompts: str = "",
    limit: Count = 0,
    temperature: NotNegative = 1.0,
    max_new_tokens: Positive = 256,
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """Put new models into a project: they answer, and fresh comparisons with the old answers follow.

    What was said stays, and ratings go on over the rounds. The app may run meanwhile.

    Parameters
    ----------
    block
        The block of comparisons.
    model
        A new model, `NAME=MODEL`, once for each: a folder, id, run folder or server.
    prompts
        A file of prompts that the models answer, instead of those of the block.
    limit
        Most new tasks, drawn evenly; 0 is all.
    temperature
        0 decodes greedily.
    max_new_tokens
        Most tokens of an answer.
    """
    from trueup.collecting.rounds import Round, add_round

    named = [text.partition("=") for text in model]
    models = {name: reference for name, _, reference in named}
    if len(models) < len(model) or not all(name and reference for name, _, reference in named):
        remedy = "write --model NAME=MODEL, each name once: --model ppo-2=runs/second"
        raise TrueupError("E889", "models of a round have a name each", where="--model", remedy=remedy)
    check_models(*(reference for reference in models.values() if not reference.startswith("openai:")))
    opened = _opened(project)
    asked = Round(
        models=models,
        prompts=prompts,
        limit=limit,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    added = add_round(opened.store, opened.project, block, asked)
    said = [f"round {added.number}: {counted(added.tasks, 'new task')} in {block}"]
    if added.alike:
        said.append(f"{counted(added.alike, 'pair')} of answers that are the same text left out")
    answer({"round": added.number, "tasks": added.tasks, "alike": added.alike}, said, as_json)


@app.command
def report(project: Project, /, *, as_json: Json = False) -> None:
    """Say whose values the answers stand for: how groups of people agree, and what each of them prefers.

    The page Groups of the app shows the same.
    """
    from trueup.collecting.whose import as_json as plain
    from trueup.collecting.whose import groups_report

    found = groups_report(_opened(project).store)
    answer(plain(found), found["said"], as_json)


@app.command
def backup(project: Project, /, *, out: Path) -> None:
    """Copy the store as it is now, also while the app is used; a copy by other means may be damaged.

    Parameters
    ----------
    out
        Where the copy goes. To go back to it, stop the app and put it in the store's place.
    """
    say(f"backup: {_opened(project).store.backup(out)}")


def _opened(project: Path) -> Opened:
    from trueup.collecting.open import open_project

    return open_project(project)
