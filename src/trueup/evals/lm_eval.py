"""The LM evaluation harness (Gao et al. 2021; key gao2021) as another engine, fully offline.

Two ways: tasks of its own format, whose figures are its own, and our items, which it is given as a local
file; what it answers for them, log-probabilities and greedy flags, goes through the same scores as our own.
It is the optional extra `trueup[eval]`.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.figures import Figure, Sample, figures_of
from trueup.evals.likelihood import Evidence
from trueup.evals.tasks import Task
from trueup.models.gguf import place
from trueup.models.opening import model_path

_SCORES = ("sum", "character", "byte", "mc2", "greedy", "brier")
"What needs no more than log-probabilities of choices and greedy flags."


@dataclass(frozen=True, kw_only=True, eq=False)
class Harness:
    """The harness with one model loaded into it."""

    model: Any

    @classmethod
    def of(
        cls, reference: str, *, dtype: str = "float32", device: str = "cpu", batch_size: int = 8
    ) -> Harness:
        """The harness on a checkpoint. Raises E811 where `lm-eval` is not installed."""
        with _quiet():
            try:
                from lm_eval.models.huggingface import HFLM
            except ImportError:
                raise TrueupError(
                    "E811",
                    "the package lm-eval is not installed",
                    where="--engine lm-eval",
                    remedy='`pip install "trueup[eval]"`, or leave --engine out',
                ) from None
            # Its decorators hide the parameters from type checkers.
            build: Any = HFLM
            with place(model_path(reference)) as (path, given):
                model = build(pretrained=path, dtype=dtype, device=device, batch_size=batch_size, **given)
        return cls(model=model)

    def own_tasks(
        self, names: Sequence[str], include: Path | None = None, *, limit: int | None = None
    ) -> tuple[list[Figure], dict[str, list[Sample]]]:
        """The figures and items of tasks that the harness knows, or that YAML files in `include` define.

        With `include` its own collection is not looked at, so nothing is downloaded. Raises E745 for a name
        that it does not know, E747 where it fails.
        """
        found = self._evaluate(list(names), include, limit)
        samples = {name: self._counted(rows) for name, rows in found["samples"].items()}
        return figures_of(found, samples), samples

    @property
    def context(self) -> int:
        """The tokens that the harness gives the model at most."""
        return int(self.model.max_length)

    def evidence(self, task: Task, items: Sequence[Group]) -> Evidence:
        """What the harness says about our items. Raises E747 for a score that needs more than it tells."""
        if task.score is None or task.score.name not in _SCORES:
            raise TrueupError(
                "E747",
                "lm-eval does not measure what this task is scored by",
                where=f"task {task.name}",
                remedy="leave --engine out",
            )
        samples = self.samples({task.name: (task, items)})[task.name]
        replies = [[reply[0] for reply in sample["resps"]] for sample in samples]
        return Evidence(
            logprobs=[np.array([float(logprob) for logprob, _ in row]) for row in replies],
            num_tokens=[],
            greedy=[np.array([float(greedy) for _, greedy in row]) for row in replies],
            cut=[sample["tokens_cut"] for sample in samples],
        )

    def samples(self, asked: Mapping[str, tuple[Task, Sequence[Group]]]) -> dict[str, list[Sample]]:
        """The harness's own record of each of our items, by task: replies, and its `acc` and `acc_norm`."""
        with tempfile.TemporaryDirectory() as folder:
            for task, items in asked.values():
                write_task(task, items, Path(folder))
            found = self._evaluate(list(asked), Path(folder), None)["samples"]
        return {name: self._counted(found[name]) for name in asked}

    def _counted(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples in the order of their items, each with how many tokens did not fit as `tokens_cut`."""
        return [
            {**sample, "tokens_cut": max(self._tokens_cut(request) for request in sample["arguments"])}
            for sample in sorted(samples, key=lambda sample: sample["doc_id"])
        ]

    def _tokens_cut(self, request: Sequence[Any]) -> int:
        """How many tokens the harness drops from the front of a request; of a rolling one it drops none."""
        context, after = request[0], request[1] if len(request) > 1 else None
        if isinstance(after, str):
            # One token more than the context fits: the last is predicted and not read.
            room = self.context + 1
            if context:
                length = sum(map(len, self.model._encode_pair(context, after)))
            else:
                length = 1 + len(self.model.tok_encode(after, add_special_tokens=False))
        elif isinstance(after, Mapping):
            room = self.context - int(after.get("max_gen_toks", self.model.max_gen_toks))
            length = len(self.model.tok_encode(context))
        else:
            return 0
        return max(0, length - room)

    def _evaluate(self, names: list[str], include: Path | None, limit: int | None) -> dict[str, Any]:
        with _quiet():
            from lm_eval import simple_evaluate
            from lm_eval.tasks import TaskManager

            manager = TaskManager(
                include_path=str(include) if include else None, include_defaults=include is None
            )
            unknown = [name for name in names if name not in manager.all_tasks]
            if unknown:
                raise TrueupError(
                    "E745",
                    f"lm-eval knows no task {unknown[0]!r}",
                    where="tasks",
                    remedy=f"there are {', '.join(manager.all_tasks[:8])} ..."
                    if include
                    else "`lm-eval ls tasks` lists them; --include DIR adds a folder of YAML files",
                )
            try:
                evaluate: Any = simple_evaluate  # decorated in a way that hides its parameters
                found = evaluate(
                    model=self.model,
                    tasks=names,
                    task_manager=manager,
                    limit=limit,
                    bootstrap_iters=0,
                    log_samples=True,
                )
            except Exception as error:  # the harness raises whatever its tasks and data sets raise
                reason = f"lm-eval failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                raise TrueupError(
                    "E747", reason, where="tasks", remedy="check the task's YAML and its data"
                ) from error
        assert found is not None
        return dict(found)


def write_task(task: Task, items: Sequence[Group], folder: Path) -> Path:
    """Our items as a task of the harness: `NAME.jsonl` and `NAME.yaml` in `folder`; the YAML is returned."""
    assert task.score is not None
    greedy = task.score.name == "greedy"
    spaced = all(c.text.startswith(" ") for item in items for c in item.completions) and not greedy
    rows = []
    for item in items:
        texts = [c.text.removeprefix(" ") if spaced else c.text for c in item.completions]
        rows.append({
            "query": item.prompt[0].content,
            "choices": texts,
            "target": texts[0] if greedy else item.meta["answer"],
        })  # fmt: skip
    data = folder / f"{task.name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    metrics = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    if not greedy:
        metrics.append({"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True})
    said = {
        "task": task.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "loglikelihood" if greedy else "multiple_choice",
        "doc_to_text": "query",
        "doc_to_target": "target",
        **({} if greedy else {"doc_to_choice": "choices"}),
        "target_delimiter": " " if spaced else "",
        "metric_list": metrics,
        "metadata": {"version": task.version},
    }
    path = folder / f"{task.name}.yaml"
    path.write_text(json.dumps(said, indent=1), encoding="utf-8")  # JSON is YAML
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """The harness without its notes; its progress bars only where a person looks on."""
    import datasets

    with ExitStack() as stack:
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(StringIO()))
            if datasets.is_progress_bar_enabled():
                datasets.disable_progress_bars()
                stack.callback(datasets.enable_progress_bars)
        for logger in (logging.getLogger("lm_eval"), logging.getLogger("lm-eval")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
