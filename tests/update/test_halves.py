"""bfloat16 weights move as float32 ones do: float32 masters, Kahan summation, and the refusal of neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import small_world
from runs.resume.made_runs import UPDATES_PER_STEP, Run, make
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.runs.signals import Interrupted
from trueup.update import halves
from trueup.update.adamw import AdamW
from update.test_adamw import Bare, network, squares

Kept = Literal["float32", "kahan"]
KEPT: tuple[Kept, ...] = ("float32", "kahan")


def half(seed: int = 0) -> Bare:
    net = network(seed)
    net.module.bfloat16()
    return net


def settings(kept: Literal["float32", "kahan", "none"] = "float32", lr: float = 0.01) -> AdamW:
    return AdamW(
        lr=lr, schedule="constant", warmup=0, weight_decay=0.1, max_grad_norm=1e9, master_weights=kept
    )


def kept_of(rule: Any, name: str, net: Bare) -> Tensor:
    """The wide number that a rule steps for a weight."""
    held, weight = rule.state()[0], net.module.get_parameter(name).detach().float()
    master = held.get(f"policy/{name}:master")
    return weight + held[f"policy/{name}:compensation"].float() if master is None else master


def drift(kept: Kept) -> tuple[float, float]:
    """How far 3,000 updates of 1e-5 move a weight from 1, and what is kept of it."""
    weight = torch.ones(1, dtype=torch.bfloat16)
    group = {"names": ["w"], "params": [weight], "weight_decay": 0.0, "scale": 1.0}
    rule = halves.Halves(kept, [group], {"lr": 1e-5, "betas": (0.9, 0.95), "eps": 1e-8})
    for _ in range(3000):
        weight.grad = torch.ones_like(weight)
        rule.step(1e-5)
    held = rule.state()
    return 1 - float(weight), 1 - float(
        held["w:master"] if kept == "float32" else weight + held["w:compensation"].float()
    )


def test_a_weight_moves_where_plain_bfloat16_stands_still() -> None:
    """3,000 updates of 1e-5 from 1 are .03, which bfloat16 rounds to 8/256; torch's AdamW moves it by 0."""
    plain = torch.ones(1, dtype=torch.bfloat16)
    oracle = torch.optim.AdamW([plain], lr=1e-5, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(100):
        plain.grad = torch.ones_like(plain)
        oracle.step()
    assert float(plain) == 1
    weight, master = drift("float32")
    assert weight == 8 / 256 and master == pytest.approx(0.03, rel=2e-3)
    weight, summed = drift("kahan")
    # A compensation near 1/512 has steps of 1/131072: of 1e-5 it takes .76e-5.
    assert weight == 7 / 256 and 0.85 * 0.03 <= summed <= 0.03


def test_masters_are_torchs_adamw_in_float32() -> None:
    """Fed with the same gradients, to the last bit; the weight is the master, rounded."""
    net, wide = half(), network()
    wide.module.load_state_dict(net.module.state_dict())
    wide.module.float()
    rule = settings().start({"policy": net}, 20)
    weight, bias = wide.module.parameters()
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    oracle = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    for _ in range(20):
        rule.step(squares(net))
        for mine, theirs in zip(net.module.parameters(), wide.module.parameters(), strict=True):
            assert mine.grad is not None
            theirs.grad = mine.grad.float()
        oracle.step()
        for name, theirs in wide.module.named_parameters():
            assert torch.equal(kept_of(rule, name, net), theirs)
            assert torch.equal(net.module.get_parameter(name), theirs.bfloat16())


def test_kahan_keeps_sixteen_bits_of_what_masters_keep() -> None:
    """20 updates of about .01 on weights of about 1: to 1 % of what they moved; 6 bytes each beside them."""
    found = []
    for kept in KEPT:
        net = half()
        rule = settings(kept).start({"policy": net}, 20)
        for _ in range(20):
            rule.step(squares(net))
        found.append(torch.cat([kept_of(rule, n, net).flatten() for n in ("weight", "bias")]))
    moved = (found[0] - torch.cat([p.detach().float().flatten() for p in half().module.parameters()])).abs()
    assert (found[0] - found[1]).abs().max() <= 0.01 * moved.max()
    bits = {name: value for name, value in rule.state()[0].items() if not name.endswith(":step")}
    assert sum(t.numel() * t.itemsize for t in bits.values()) == 6 * 8  # 8 weights


def test_the_norm_is_added_up_in_float32() -> None:
    """A million gradients of 1 have the norm 1000, and of 4,097 in bfloat16 one is not lost."""
    gradients = [torch.ones(4097, dtype=torch.bfloat16), torch.full((3,), 2.0)]
    assert float(halves.total_norm(gradients)) == pytest.approx((4097 + 12) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("kept", KEPT)
def test_the_state_restores_the_same_path(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whether weights are stepped together or one at a time changes no bit."""
    whole, part = half(), half()
    rule, first = settings(kept).start({"p": whole}, 6), settings(kept).start({"p": part}, 6)
    for _ in range(3):
        rule.step(squares(whole))
        first.step(squares(part))
    monkeypatch.setattr(halves, "CHUNK", 1)
    second = settings(kept).start({"p": part}, 6)
    second.load(*first.state())
    for _ in range(3):
        rule.step(squares(whole))
        second.step(squares(part))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.module.parameters(), part.module.parameters(), strict=True)
    )
    mine, theirs = rule.state()[0], second.state()[0]
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_checkpoint_without_masters_is_refused() -> None:
    net = half()
    rule = settings().start({"policy": net}, 2)
    tensors, values = rule.state()
    del tensors["policy/bias:master"]
    with pytest.raises(TrueupError, match=r"E844.*policy/bias:master"):
        rule.load(tensors, values)


def test_what_would_not_move_is_refused() -> None:
    with pytest.raises(TrueupError, match=r"E505.*update.master_weights"):
        settings("none").start({"policy": half()}, 1)
    settings("none").start({"policy": network()}, 1)
    with pytest.raises(TrueupError, match=r"E506.*betas"):
        AdamW(lr=1e-4, betas=(0.9, 0.999), master_weights="kahan").start({"policy": half()}, 1)


@pytest.mark.parametrize(("method", "kept"), [("sft", "float32"), ("dpo", "kahan")])
def test_a_run_in_bfloat16_resumes_to_the_same_bits(method: str, kept: Kept, tmp_path: Path) -> None:
    def run(folder: Path) -> Run:
        made = make(method, folder, update=AdamW(lr=1e-3, master_weights=kept), save_every=1)
        for net in made.handles.networks.values():
            net.module.bfloat16()
        return made

    whole = run(tmp_path / "whole").go()
    first = run(tmp_path / "cut")
    with pytest.raises(Interrupted):
        first.go(stop_after=UPDATES_PER_STEP[method] * 2 - 1)
    rest = run(tmp_path / "cut").go()
    assert {**first.watched.digests, **rest} == whole


def test_a_run_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its masters move as far as a float32 run's weights, its model is bfloat16, checkpoints hold both."""
    monkeypatch.chdir(small_world.make(tmp_path / "world"))
    asked = "train sft --model.path my-model --data.path demos.jsonl --loop.steps 6 --loop.batch 4"
    asked += " --update.lr 1e-5 --update.warmup 0 --update.schedule constant --model.dtype"
    assert main([*asked.split(), "float32", "--out", "wide"]) == 0
    assert main([*asked.split(), "bfloat16", "--out", "half"]) == 0
    assert main([*asked.split(), "bfloat16", "--out", "none", "--update.master_weights", "none"]) == 65
    assert "E505" in capsys.readouterr().err
    start = {k: v.bfloat16().float() for k, v in load_file("my-model/model.safetensors").items()}
    wide, model = (load_file(f"{run}/model/model.safetensors") for run in ("wide", "half"))
    masters = load_file(next(Path("half/checkpoints").glob("step-000006")) / "optimizer.safetensors")
    moved: dict[str, list[float]] = {"wide": [], "half": []}
    for name, first in start.items():
        master = masters[f"policy/model.{name}:master"]
        assert master.dtype == torch.float32 and model[name].dtype == torch.bfloat16
        assert torch.equal(model[name], master.bfloat16())
        moved["half"].append(float((master - first).abs().mean()))
        before = load_file("my-model/model.safetensors")[name].float()
        moved["wide"].append(float((wide[name] - before).abs().mean()))
    for mine, theirs in zip(moved["half"], moved["wide"], strict=True):
        assert mine == pytest.approx(theirs, rel=0.25)
