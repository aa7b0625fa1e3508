"""Rules of the house that a syntax tree can show: nothing unsafe, no inheritance, documentation, names."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from architecture.tree import ROOT, Module, modules

UNSAFE_MODULES = ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle")
UNSAFE_CALLS = (
    "eval", "exec", "compile", "__import__", "torch.load", "torch.save", "yaml.load", "yaml.full_load",
    "yaml.unsafe_load", "os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle",
)  # fmt: skip
UNSAFE_ALLOWED: dict[tuple[str, str], str] = {
    ("trueup.sandbox.inside", call): "runs in a process that has sealed itself"
    for call in ("exec", "compile")
} | {
    ("trueup.settings.alone", call): "runs statements of trueup's own files, as importing them would"
    for call in ("exec", "compile")
}
"(module, call) -> why it is safe there."

BASES = {
    "Protocol", "NamedTuple", "TypedDict", "StrEnum", "IntEnum", "Enum", "Exception", "nn.Module",
    "torch.autograd.Function", "Function", "HTMLParser",
}  # fmt: skip
BASES_ALLOWED = {
    "trueup.settings.strict_yaml:_Loader": "PyYAML is configured by subclassing; only its tables change",
    "trueup.settings.strict_yaml:_Dumper": "as _Loader",
    "trueup.chat.woven:_Generation": "Jinja is extended by subclassing",
    "trueup.chat.woven:_Named": "Jinja lets templates assign to its own namespaces only",
    "trueup.chat.woven:TooReadError": "no `except Exception` of Jinja's may swallow it",
    "trueup.runs.signals:Stopped": "whatever lets Ctrl-C through lets it through",
    "trueup.planning.counting:_Follow": "torch calls a dispatch mode, which is one by its base",
    "trueup.engine.views:View": "a Sequence to whoever takes one; what it inherits rests on its own",
    "trueup.models.sharding:_AtWork": "fully_shard takes a module with a forward, and ours is a dictionary",
    "trueup.sandbox.inside:UnansweredError": "no `except Exception` of a test may swallow it",
}
SPOKEN_FOR = ("forward", "backward")
"Methods whose meaning is torch's."
VAGUE_NAMES = ("utils", "util", "common", "misc", "helpers", "helper")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
# A tool is silenced only with the reason after it, or in a comment on the line above.
SILENCED = re.compile(
    r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore|pragma:\s*no cover)(:?\s*[\w\-, ]*|\[[\w\-, ]*\])\s*$"
)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call below a node."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What in a syntax tree could run code that a file or a model repository brings along."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (n for n in names if n.split(".")[0] in UNSAFE_MODULES)
    for call in calls(tree):
        name = ast.unparse(call.func)
        if name in UNSAFE_CALLS:
            yield name
        for keyword in call.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg in ("allow_pickle", "trust_remote_code", "shell") and value is not False:
                yield f"{keyword.arg}={ast.unparse(keyword.value)}"
            if keyword.arg == "weights_only" and value is not True:
                yield "weights_only=False"


def test_nothing_runs_what_a_file_brings_along() -> None:
    found = [(m.name, what) for m in modules() for what in unsafe(m.tree)]
    assert not [pair for pair in found if pair not in UNSAFE_ALLOWED]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import dill.source",
        "eval('1')",
        "exec(code)",
        "torch.load(path)",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=config.trust)",
        "subprocess.run(command, shell=True)",
        "f(weights_only=False)",
    ],
)
def test_the_lint_sees_each_unsafe_form(source: str) -> None:
    assert list(unsafe(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import json",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
        "re.compile('a')",
        "yaml.compose(t)",
    ],
)
def test_the_lint_lets_safe_forms_pass(source: str) -> None:
    assert not list(unsafe(ast.parse(source)))


def test_no_class_inherits_an_implementation() -> None:
    found = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and f"{module.name}:{node.name}" not in BASES_ALLOWED:
                bases = {re.sub(r"\[.*\]$", "", ast.unparse(base)) for base in node.bases}
                if not bases <= BASES:
                    found.append(f"{module.where}:{node.lineno} {node.name} inherits from {bases - BASES}")
    assert not found, "\n".join(found)


def undocumented(module: Module) -> Iterator[str]:
    """Public functions, classes and methods without a docstring; a protocol speaks for its members."""
    if ast.get_docstring(module.tree) is None and module.text.strip():
        yield f"{module.where}: the module"
    for node in module.tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{module.where}:{node.lineno} {node.name}"
        bases = {ast.unparse(b) for b in node.bases} if isinstance(node, ast.ClassDef) else {"Protocol"}
        if bases & {"Protocol", "nn.Module"}:
            continue
        assert isinstance(node, ast.ClassDef)
        for member in node.body:
            public = isinstance(member, ast.FunctionDef) and not member.name.startswith("_")
            if public and member.name not in SPOKEN_FOR and ast.get_docstring(member) is None:
                yield f"{module.where}:{member.lineno} {node.name}.{member.name}"


def test_what_is_public_is_documented() -> None:
    found = [place for module in modules() for place in undocumented(module)]
    assert not found, "\n".join(found)


def test_names_say_what_is_inside() -> None:
    assert not [m.name for m in modules() if set(m.name.split(".")) & set(VAGUE_NAMES)]


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{module.where}:{number} {line.strip()}"
        for module in modules()
        for number, line in enumerate(module.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_tool_is_silenced_without_a_reason() -> None:
    found = [
        f"{module.where}:{number} {line.strip()}"
        for module in modules()
        for before, (number, line) in pairwise([(0, ""), *enumerate(module.text.splitlines(), 1)])
        if SILENCED.search(line) and not before[1].strip().startswith("#")
    ]
    assert not found, "\n".join(found)


# ------------------------------------------------------------------------------------------ the repository

# Written so that this file does not hold what it looks for.
FOREIGN = re.compile(
    r"/wor[k]/|/far[m]/|/roo[t]/|/hom[e]/[a-z]|/opt/whee[l]s|/opt/pyp[i]|p[y]pi[.]org|python[h]osted|deb[.]debia[n]|npm[j]s[.]"
)
BINARY = (".safetensors", ".png", ".parquet", ".gz", ".ico", ".woff2", ".db")


def tracked() -> list[Path]:
    """The files git tracks; in an unpacked source archive, those in its own folders."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [
        p for folder in ("src", "tests", "docs", "scripts") for p in (ROOT / folder).rglob("*") if p.is_file()
    ]


def test_no_file_names_a_machines_paths_or_a_registrys_hosts() -> None:
    found = []
    for path in tracked():
        if path.suffix not in BINARY:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if FOREIGN.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}")
    assert not found, "\n".join(found)
