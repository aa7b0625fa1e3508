"""Who writes: all that a run leaves goes through `engine.disk` or `runs.manifest`, so no kill leaves half."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from architecture.tree import modules

ALLOWED: dict[str, str] = {
    "trueup.engine.disk": "the one place",
    "trueup.runs.manifest": "checkpoints, with hashes of what is written",
    "trueup.runs.hold": "the lock, a file that stays empty",
    "trueup.cli": "opens /dev/null",
    "trueup.models.load": "into the new folder that `disk.whole_folder` gives its callers",
    "trueup.models.lora": "as models.load",
    "trueup.models.heads": "as models.load",
    "trueup.models.spoken": "as models.load",
    "trueup.soups.adapters": "as models.load, or a temporary folder",
    "trueup.runs.export": "a copy into a new folder",
    "trueup.judges.ngrams": "into the new file that `disk.whole` gives",
    "trueup.engine.groups": "as judges.ngrams",
    "trueup.data.writer": "as judges.ngrams",
    "trueup.data.quarantine": "as judges.ngrams",
    "trueup.commands.lab": "as judges.ngrams",
    "trueup.lab.build": "builds the model that the package ships; no run",
    "trueup.answerers.cache": "whole without a sync: an answer that a power cut takes is asked for again",
    "trueup.comparison.engine": "a job's log, at its end",
    "trueup.sources.kept": "encoded rows in the user's cache, whole by a manifest of their own",
    "trueup.data.stored": "as sources.kept",
    "trueup.runs.recipe": "renames a folder that it holds",
    "trueup.sandbox.trust": "a note in the user's cache",
    "trueup.sandbox.probes": "what a sandbox must forbid",
    "trueup.sandbox.cell": "a temporary folder",
    "trueup.models.gguf": "a link in a temporary folder",
    "trueup.evals.lm_eval": "a temporary folder",
    "trueup.api.training": "a temporary folder",
    "trueup.api.given": "a temporary folder",
    "trueup.runs.followed": "a temporary folder",
    "trueup.runs.devices": "nothing: what ranks but the first would show",
}
"module -> what it may write beside those two, and why."

CALLS = {
    "write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "unlink", "rmdir",
    "save_file", "save_pretrained", "save_model", "savefig", "to_csv", "to_parquet",
    "NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp", "ParquetWriter",
}  # fmt: skip
"Calls that write, by their last name."
OF_MODULES = {
    "os": {
        "replace", "rename", "remove", "unlink", "rmdir", "truncate", "ftruncate", "write", "link", "symlink",
    },
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree"},
}  # fmt: skip


def writes(tree: ast.AST) -> Iterator[str]:
    """Every call in a syntax tree that makes, changes or removes a file."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        owner, _, last = name.rpartition(".")
        if last in CALLS or last in OF_MODULES.get(owner, ()):
            yield name
        elif owner and last in ("replace", "rename") and len(call.args) == 1 and not call.keywords:
            yield name  # of a path: that of a text takes two arguments, that of a dataclass keywords
        elif last == "open" and any(_writing(a) for a in (*call.args, *(k.value for k in call.keywords))):
            yield name


def _writing(argument: ast.AST) -> bool:
    """Whether an argument of `open` is a mode, or flags, to write by."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        mode = argument.value
        return 0 < len(mode) <= 3 and set(mode) <= set("rwaxbt+") and bool(set(mode) & set("wax+"))
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("O_WRONLY", "O_RDWR", "O_CREAT")
        for node in ast.walk(argument)
    )


def test_nothing_else_opens_for_writing() -> None:
    found = {m.name: sorted(set(writes(m.tree))) for m in modules()}
    assert not {name: what for name, what in found.items() if what and name not in ALLOWED}


def test_who_is_allowed_does_write() -> None:
    found = {m.name for m in modules() if any(writes(m.tree))}
    assert sorted(ALLOWED.keys() - found) == []


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'w')",
        "path.open('ab')",
        "path.open(mode='r+')",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
        "path.write_text('x')",
        "os.replace(a, b)",
        "staged.replace(path)",
        "shutil.rmtree(path)",
        "path.unlink(missing_ok=True)",
        "safetensors.torch.save_file(t, path)",
        "model.save_pretrained(path)",
    ],
)
def test_the_lint_sees_each_way_of_writing(source: str) -> None:
    assert list(writes(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "path.open('rb')",
        "text.replace('a', 'b')",
        "replace(config, seed=1)",
        "disk.write(path, text)",
        "open_network(role, 'w')",
        "os.open(path, os.O_RDONLY)",
    ],
)
def test_the_lint_lets_reading_pass(source: str) -> None:
    assert not list(writes(ast.parse(source)))
