"""The pages on methods: every method has one, its commands parse, the example for writers trains."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import trueup
import trueup.testing
from eval_stubs import tiny_model
from trueup.models.load import save
from trueup.runs.meter import METRICS, read
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import plan, read_recipe
from trueup.runs.shipped import recipe_path
from trueup.settings import config as configuration
from trueup.settings import discover

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "adding-a-method.md"
EXAMPLE = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The guide's example as a file of its own."""
    assert EXAMPLE is not None
    path = tmp_path / "hinge.py"
    path.write_text(EXAMPLE.group(1), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", discover.names())
def test_a_method_has_a_page(name: str) -> None:
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    module = vars(discover.find(name))
    for heading in (
        "## Run",
        "## What it logs",
        "## Details that matter",
        "## Pitfalls",
        "## What we measured",
    ):
        assert f"\n{heading}\n" in page
    equation = re.search(r"^```math\n(.*?)^```$", page.split("## Run")[0], re.DOTALL | re.MULTILINE)
    assert equation is not None and "=" in equation[1]
    assert not [key for key in module["REFERENCES"] if f"`{key}`" not in page]


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("page", sorted((DOCS / "methods").glob("*.md")), ids=lambda p: p.stem)
def test_the_commands_of_a_page_are_understood(page: Path, tmp_path: Path) -> None:
    """Every `trueup train` resolves to settings, every `trueup run` to stages; nothing is trained."""
    found = commands(page)
    assert found
    for line in found:
        program, verb, what, *options = shlex.split(line)
        assert program == "trueup"
        if verb == "run":
            assert plan(read_recipe(recipe_path(what)), tmp_path)
            continue
        assert verb == "train"
        at = options.index("--out")
        layer = configuration.parse_overrides(options[:at] + options[at + 2 :])
        assert single_stage(what, layer, tmp_path).config is not None


def test_the_example_is_short_and_sound(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 60
    module = discover.find(str(example))
    hinge = vars(module)["Hinge"](beta=0.5)
    trueup.testing.check_objective(hinge, at_reference=1.0)
    trueup.testing.check_method(module, tmp_path / "runs")


def test_the_example_trains_by_its_path(example: Path, tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "model")
    trained = trueup.fit(
        example,
        model=tmp_path / "model",
        data={"limit": 24},
        out=tmp_path / "run",
        loop={"steps": 2, "batch": 4},
        beta=0.5,
    )
    assert Path(trained.model, "model.safetensors").is_file()
    first, *_ = read(tmp_path / "run" / METRICS)
    assert first["loss/hinge"] == pytest.approx(1.0, abs=1e-5)  # at the reference the margin is 0
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


def test_a_file_without_its_two_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text('"""Nothing."""\n', encoding="utf-8")
    with pytest.raises(Exception, match=r"E704.*Config and build"):
        discover.find(str(path))
