"""The fixed demonstrations of the LM evaluation harness's tasks, read from the package as it is installed.

Numbers compare with published ones only where the very text stands before the question; it is the harness's
to ship, so it is read there and stands in no file of ours.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trueup.errors import EXIT_UNAVAILABLE, TrueupError
from trueup.evals.templates import render

_ROW = "\u0001"
"What stands for the question while the text before it is looked for."


_KNOWN = "0.4.13"
"The lm-eval whose wordings our task files ask in."


def is_installed() -> bool:
    """Whether the harness is here to be read."""
    return find_spec("lm_eval") is not None


@cache
def text_before(name: str, query: str, separator: str) -> str:
    """What the harness's task `name` puts before every query, without the separator between them.

    Raises E811 where lm-eval is not installed, E431 where its task ends in another query than `query`.
    """
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise TrueupError(
            "E811",
            "the package lm-eval is not installed, and the task's demonstrations are in it",
            where=f"task {name}",
            remedy="pip install 'trueup[eval]'",
            exit_code=EXIT_UNAVAILABLE,
        )
    found = [
        path
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder, "tasks").rglob(f"{name}.yaml"))
    ]
    worded = _worded(found[0]) if found else ""
    asked = separator + render(query, lambda path: _ROW, name)
    if not worded.endswith(asked):
        raise TrueupError(
            "E431",
            "the installed lm-eval words this task in another way",
            where=f"{found[0] if found else 'lm-eval'}, task {name}",
            remedy=f"pip install 'lm-eval=={_KNOWN}'",
        )
    return worded.removesuffix(asked)


def _worded(path: Path) -> str:
    """A task file's query, with signs in the places of a row's values; "" for one that says none.

    What its tags name (`!function`) is neither read nor run.
    """
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    said = {key.value: value.value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
    if "doc_to_text" in said:
        environment = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
        return environment.from_string(said["doc_to_text"]).render(question=_ROW)
    return _worded(path.with_name(said["include"])) if "include" in said else ""
