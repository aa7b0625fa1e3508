"""SELF-ALIGN's quick recipe with its base model behind a server: the rows of the model in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import process, recipe_rows


@pytest.mark.slow  # A server is started, and a model of the lab walks through the quick recipe twice.
def test_the_quick_recipe_gives_the_same_rows_behind_a_server(tmp_path: Path) -> None:
    greedy = {"greedy": True, "max_new_tokens": 32}

    def kept(ref: str, folder: str) -> dict[str, list[Any]]:
        asked = {"model": ref, "decoding": greedy}
        changes = {"tasks": {**asked, "rounds": 2}, "answers": asked, "verbose": asked}
        return recipe_rows("self-align/quick", changes, tmp_path / folder)

    with process("lab:base") as (ref, _):
        far = kept(f"{ref}&cache=off", "far")
    near = kept("lab:base", "near")
    assert near == far
    assert len(near["tasks"]) > 2 and len(near["answers"]) == len(near["verbose"]) > 2
