"""A project: its settings from YAML, and the tasks that its files of rows become.

Files are named from the project's own folder. Reading them again adds what is new and changes nothing else: a
task is known by its block and by the SHA-256 of what is shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from annotated_types import Ge, Gt, Le

from trueup.collecting.kinds import AXES, FLAGS, SIDES, gold_of
from trueup.collecting.schema import task
from trueup.collecting.store import Store, log, plain
from trueup.collecting.tasks import EVERYBODY, GOLD_SHARE, LEASE_SECONDS, PASS_SHARE
from trueup.data import read
from trueup.engine.groups import Group, to_json
from trueup.errors import TrueupError, counted
from trueup.settings import config as configuration
from trueup.settings.schema import Word

Purpose = Literal["work", "gold", "qualify"]
_JUDGED = ("comparisons", "rankings", "scores")


@dataclass(frozen=True, kw_only=True)
class Converse:
    """How people talk to two models."""

    models: Mapping[str, str] = field(default_factory=dict)
    "Who may answer, by name: folders, ids, run folders, servers. Two are drawn for each conversation."
    conversations: Annotated[int, Ge(1)] = 100
    "How many are wanted."
    turns: Annotated[int, Ge(1), Le(50)] = 8
    "Most turns of one."
    system: str = ""
    temperature: Annotated[float, Ge(0)] = 1.0
    max_new_tokens: Annotated[int, Ge(1)] = 256


@dataclass(frozen=True, kw_only=True)
class Block:
    """Tasks of one kind."""

    kind: Literal["compare", "rank", "rate", "demonstrate", "critique", "converse", "prompts"]
    data: str = ""
    "A file of rows, in any format that is read: two answers or more to compare or rank, one to rate or mend."
    gold: str = ""
    "Rows whose own judgements are the known answers; they are hidden among the others."
    qualify: str = ""
    "Such rows that everybody does first."
    overlap: Annotated[int, Ge(1)] = 1
    "How many different people do each task."
    format: Word = "auto"
    "What the rows look like, as in `trueup data check`."
    columns: Mapping[str, str] = field(default_factory=dict)
    "The files' names for ours."
    judged: Literal["drop", "keep"] = "drop"
    "What becomes of judgements that the rows come with: exports of a project are read with `keep`."
    question: str = ""
    "What is asked above the choice; each kind has its own otherwise."
    ties: bool = False
    "Whether two answers may be said to be equally good."
    axes: tuple[str, ...] = AXES
    flags: tuple[str, ...] = FLAGS
    plain: Annotated[int, Ge(0)] = 0
    "Of `prompts`, how many of any kind are to be written."
    few_shot: Annotated[int, Ge(0)] = 0
    "How many with an instruction and examples; `data` has use cases, each for a prompt that is user-based."
    adjudicate: Literal["never", "differ", "undecided"] = "never"
    "Which tasks somebody decides who has not voted: where two votes differ, or where no majority agrees."
    converse: Converse = Converse()

    def __post_init__(self) -> None:
        if self.kind == "converse" and len(self.converse.models) < 2:
            raise ValueError("`converse.models` names two models or more")
        if self.kind == "prompts" and not (self.data or self.plain or self.few_shot):
            raise ValueError("say how many prompts: `plain`, `few_shot`, or `data` with use cases")
        if self.kind not in ("converse", "prompts") and not self.data:
            raise ValueError("`data` names a file of rows")
        self._check_judged()

    def _check_judged(self) -> None:
        judged = self.kind in ("compare", "rank", "rate")
        if (self.gold or self.qualify) and not judged:
            raise ValueError(f"an answer of the kind `{self.kind}` cannot be held against a known one")
        if self.adjudicate != "never" and (not judged or self.overlap < 2):
            raise ValueError("`adjudicate` needs two votes or more that compare, rank or rate: `overlap: 2`")


@dataclass(frozen=True, kw_only=True)
class Project:
    """The settings of a project."""

    name: str
    tasks: Mapping[str, Block]
    "Blocks of tasks, by name."
    store: str = "project.db"
    "Where everything is kept: a file, or postgresql://USER@HOST/DATABASE."
    guidelines: str = ""
    "A file of Markdown that everybody reads first and can open at any time."
    lease_minutes: Annotated[float, Gt(0)] = LEASE_SECONDS / 60
    "After so long without a sign a task goes to somebody else."
    gold_share: Annotated[float, Ge(0), Le(1)] = GOLD_SHARE
    "Share of a person's tasks whose answer is known."
    pass_share: Annotated[float, Ge(0), Le(1)] = PASS_SHARE
    "Share of the qualifying tasks that must be answered as is known."
    pairing: Literal["order", "width", "uniform", "given"] = "order"
    "Which models are compared next, as in `trueup battle`; `given` takes the order of the rows."
    adjudicators: tuple[str, ...] = ()
    "Annotators who decide disputed tasks, by name, beside whoever leads."

    def decides(self, name: str, leads: bool) -> bool:
        """Whether somebody decides disputed tasks."""
        disputes = any(block.adjudicate != "never" for block in self.tasks.values())
        return disputes and (leads or name in self.adjudicators)


def read_project(path: Path) -> Project:
    """The project in a YAML file, its places led from the file's folder. Raises E801 or E7xx."""
    project = configuration.build(Project, configuration.read_yaml(path), where=str(path))
    if not project.tasks:
        raise TrueupError("E713", "there are no tasks", where=f"{path} tasks", remedy="name a block of them")

    def led(place: str) -> str:
        return str(path.parent / Path(place).expanduser()) if place and "://" not in place else place

    def model(place: str) -> str:
        return str(path.parent / place) if (path.parent / place).exists() else place

    def block_of(block: Block) -> Block:
        models = {name: model(place) for name, place in block.converse.models.items()}
        places = {"data": led(block.data), "gold": led(block.gold), "qualify": led(block.qualify)}
        return replace(block, converse=replace(block.converse, models=models), **places)

    blocks = {name: block_of(block) for name, block in project.tasks.items()}
    return replace(project, tasks=blocks, store=led(project.store), guidelines=led(project.guidelines))


def guidelines_of(project: Project) -> str:
    """The guidelines' Markdown; "" where there are none. Raises E801."""
    if not project.guidelines:
        return ""
    try:
        return Path(project.guidelines).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise TrueupError(
            "E801", f"cannot be read: {reason}", where=project.guidelines, remedy="check `guidelines`"
        ) from None


def fill(store: Store, project: Project) -> list[str]:
    """A sentence for each block whose rows gave new tasks. Raises E885 for rows that cannot be tasks."""
    said = []
    for name, block in project.tasks.items():
        for purpose, rows in _files(block):
            new = insert(store, name, block, purpose, rows)
            if new:
                kind = "" if purpose == "work" else f" with known answers ({purpose})"
                said.append(f"{name}: {counted(new, 'new task')}{kind}")
    return said


def _files(block: Block) -> Iterator[tuple[Purpose, list[dict[str, Any]]]]:
    if block.kind == "converse":
        yield "work", [_conversation(block, number) for number in range(block.converse.conversations)]
    if block.kind == "prompts":
        counts = {"plain": block.plain, "few_shot": block.few_shot}
        yield "work", [_unwritten(style, n) for style, many in counts.items() for n in range(many)]
    places: dict[Purpose, str] = {"work": block.data, "gold": block.gold, "qualify": block.qualify}
    for purpose, place in places.items():
        if place:
            groups = read(place, format=block.format, columns=block.columns).groups
            yield purpose, [row for group in groups for row in _rows(block, place, group)]


def _conversation(block: Block, number: int) -> dict[str, Any]:
    said = block.converse.system
    system = [{"role": "system", "content": said}] if said else []
    return {"prompt": system, "completions": [], "id": f"conversation {number + 1}"}


def _unwritten(style: str, number: int) -> dict[str, Any]:
    return {"prompt": [], "completions": [], "id": f"{style} {number + 1}", "ask": {"style": style}}


def _rows(block: Block, place: str, group: Group) -> Iterator[dict[str, Any]]:
    """The tasks that one row becomes."""
    row = to_json(group)
    answers, where = row["completions"], f"{place} {group.id}".strip()
    least = {"compare": 2, "rank": 2, "rate": 1, "critique": 1, "demonstrate": 0, "prompts": 0}[block.kind]
    if len(answers) < least or (block.kind == "rank" and len(answers) > len(SIDES)):
        most = f" to {len(SIDES)}" if block.kind == "rank" else " or more"
        remedy = (
            f"a task of the kind `{block.kind}` has {least}{most}; leave the row out, or take another kind"
        )
        raise TrueupError("E885", f"a row has {counted(len(answers), 'answer')}", where=where, remedy=remedy)
    if block.kind == "demonstrate" and block.judged == "drop":
        yield {**row, "completions": []}
    elif block.kind == "prompts":
        yield {**row, "completions": [], "ask": {"style": "user_based"}}
    elif block.kind == "compare" and len(answers) > 2:
        yield from (_part(row, pair) for pair in combinations(range(len(answers)), 2))
    elif block.kind in ("rate", "critique") and len(answers) > 1 and block.judged == "drop":
        yield from (_part(row, (place,)) for place in range(len(answers)))
    else:
        yield row


def _part(row: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """The row with some of its completions, and the judgements on those alone."""
    at = {old: new for new, old in enumerate(places)}
    compared = [
        {**c, "a": at[c["a"]], "b": at[c["b"]], "shown": None}
        for c in row.get("comparisons", ())
        if c["a"] in at and c["b"] in at
    ]
    scores = [
        {**s, "completion": at[s["completion"]]} for s in row.get("scores", ()) if s["completion"] in at
    ]
    kept = {name: value for name, value in row.items() if name not in _JUDGED}
    more = {name: found for name, found in (("comparisons", compared), ("scores", scores)) if found}
    return {**kept, "completions": [row["completions"][place] for place in places], **more}


def insert(store: Store, name: str, block: Block, purpose: Purpose, rows: list[dict[str, Any]]) -> int:
    """How many of some rows were new as tasks of a block."""
    made = [_task(name, block, purpose, row) for row in rows]
    with store.write() as connection:
        known = set(
            connection.execute(
                sa.select(task.c.sha).where(task.c.block == name, task.c.purpose == purpose)
            ).scalars()
        )
        fresh = list({row["sha"]: row for row in made if row["sha"] not in known}.values())
        if fresh:
            connection.execute(task.insert(), fresh)
            log(connection, "tasks", body={"block": name, "purpose": purpose, "new": len(fresh)})
        overlap = block.overlap if purpose == "work" else EVERYBODY
        connection.execute(
            task.update().where(task.c.block == name, task.c.purpose == purpose).values(overlap=overlap)
        )
    return len(fresh)


def _task(name: str, block: Block, purpose: Purpose, row: dict[str, Any]) -> dict[str, Any]:
    gold = None
    if purpose != "work":
        gold = gold_of(block.kind, row)
        if gold is None:
            reason = f"a row of `{purpose}` has no judgement that tells the right answer"
            remedy = "give it one: chosen and rejected, a ranking, or scores by axis"
            raise TrueupError("E885", reason, where=f"{name} {row.get('id', '')}".strip(), remedy=remedy)
    if purpose != "work" or block.judged == "drop":
        row = {key: value for key, value in row.items() if key not in _JUDGED}
    shown = [row["prompt"], [c["text"] for c in row["completions"]], row.get("id", "")]
    sources = sorted({c.get("source", "") for c in row["completions"]})
    compares = block.kind == "compare" and len(sources) == 2 and all(sources)
    return {
        "block": name,
        "kind": block.kind,
        "purpose": purpose,
        "sha": hashlib.sha256(plain(shown).encode("utf-8", "surrogatepass")).hexdigest(),
        # The order of keys is that of the row, so that an export of an import is the same file.
        "body": json.dumps(row, ensure_ascii=False, allow_nan=False),
        "gold": None if gold is None else plain(gold),
        "overlap": 1,
        "answers": 0,
        "models": json.dumps(sources) if compares else "",
    }
