"""A run's model is the bytes that were written, for whoever opens it; an export is its owner's to change."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import small_world
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.models.load import load, open_tokenizer
from trueup.settings import sealed
from trueup.settings.sealed import MANIFEST, seal, verify

CASES = 300


def test_it_names_what_decides_the_model(run: Path) -> None:
    model = run / "o" / "model"
    said = json.loads((model / MANIFEST).read_text())
    assert set(said["files"]) == {path.name for path in model.iterdir()} - {MANIFEST}
    assert said["files"]["model.safetensors"]["size"] == (model / "model.safetensors").stat().st_size
    verify(model)
    (model / "README.md").write_text("what I think of it")
    verify(model)
    (model / "README.md").unlink()


def test_damage_is_noticed(run: Path, tmp_path: Path) -> None:
    """Bits turned, ends cut off, bytes put behind, in any file and in the manifest: all are found."""
    generator = random.Random(0)
    for number in range(CASES):
        model = shutil.copytree(run / "o" / "model", tmp_path / str(number))
        path = generator.choice(sorted(model.iterdir()))
        data = bytearray(path.read_bytes())
        place = generator.randrange(len(data))
        how = number % 4
        if how == 0:
            data[place] ^= 1 << generator.randrange(8)
        elif how == 1:
            del data[place:]
        elif how == 2:
            data += bytes(1 + place % 7)
        else:
            path.unlink()
        if how != 3:
            path.write_bytes(data)
        if how == 3 and path.name == MANIFEST:
            verify(model)  # a folder without one is anybody's
            continue
        with pytest.raises(TrueupError, match=r"E853|E843"):
            verify(model)
        shutil.rmtree(model)


def test_whoever_opens_it_looks(run: Path, tmp_path: Path) -> None:
    model = shutil.copytree(run / "o" / "model", tmp_path / "model")
    assert load(model).packs and open_tokenizer(model)  # whole, and looked at once
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    for opening in (load, open_tokenizer):
        with pytest.raises(TrueupError, match=r"E853 .*model\.safetensors — damaged: expected sha256"):
            opening(model)
    (model / MANIFEST).unlink()  # as the remedy says of a change that was meant
    assert load(model).packs


def test_the_same_bytes_are_hashed_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify(run / "o" / "model")
    monkeypatch.setattr(sealed, "_facts", None)
    verify(run / "o" / "model")


def test_an_export_is_its_owners(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run / "o"), "mine"]) == 0
    assert not (tmp_path / "mine" / MANIFEST).exists()
    (tmp_path / "mine" / "generation_config.json").write_text('{"eos_token_id": 257}')
    assert main(["generate", "mine", "hi", "--max-new-tokens", "1"]) == 0


def test_what_is_gone_is_written_again(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The remedy, as it is typed, gives the same weights."""
    from hostile.runs import AGAIN

    shutil.copytree(run, tmp_path / "at", symlinks=True)
    monkeypatch.chdir(tmp_path / "at")
    kept = (tmp_path / "at" / "o" / "model" / "model.safetensors").read_bytes()
    shutil.rmtree("o/model")
    assert main(list(AGAIN)) == 66 and "remove DONE.json" in capsys.readouterr().err
    Path("o/DONE.json").unlink()
    assert main(list(AGAIN)) == 0
    assert Path("o/model/model.safetensors").read_bytes() == kept
    verify(Path("o/model"))


def test_a_mixture_that_a_run_keeps_has_one(good: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").symlink_to(good)
    recipe = {"name": "r", "stages": {"mix": {"method": "mix", "experts": {"a": "good", "b": "good"}}}}
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--out", "o"]) == 0
    (model,) = Path("o/stages").glob("mix-*/model")
    assert (model / MANIFEST).is_file()
    verify(model)
    assert main(["soup", "good", "good", "--out", "s"]) == 0
    assert not Path("s", MANIFEST).exists()


def test_a_folder_without_one_is_opened(tmp_path: Path) -> None:
    folder = small_world.save_model(tmp_path / "plain")
    verify(folder)
    seal(folder)
    with pytest.raises(TrueupError, match="E853"):
        (folder / "added_tokens.json").write_text("{}")
        verify(folder)
