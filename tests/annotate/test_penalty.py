"""The penalty on a step's KL and what moves it, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from exact.world import EVEN, Table, dyadic_table, kl
from hand_batches import group, handles
from trueup.annotate.logprobs import measure
from trueup.annotate.penalty import MovePenalty, Penalty
from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.engine.packing import spread


def test_the_first_step_takes_the_initial_and_later_ones_the_state() -> None:
    run, noted = handles()
    (out,) = Penalty(initial=0.5)([group(2, 3)], run)
    assert [c.marks["penalty"] for c in out.completions] == [0.5, 0.5]
    assert noted == {"penalty": 0.5}
    run.state["penalty"] = 4.0
    (out,) = Penalty(initial=0.5)([group(2)], run)
    assert out.completions[0].marks["penalty"] == 4.0


@pytest.mark.parametrize(
    ("form", "kl", "expected"),
    [
        ("fixed", 0.0, 2.0),
        ("fixed", 9.0, 2.0),
        ("adaptive", 0.019, 1.0),  # below .03 / 1.5 = .02
        ("adaptive", 0.021, 2.0),
        ("adaptive", 0.044, 2.0),
        ("adaptive", 0.046, 4.0),  # above 1.5 · .03 = .045
        ("dual", 0.03, 2.0),
        ("dual", 0.05, 2.1),  # 2 + 5 (.05 − .03)
        ("dual", 0.0, 1.85),  # 2 − 5 · .03
    ],
)
def test_the_three_forms_by_hand(form: str, kl: float, expected: float) -> None:
    """c = 2, δ = .03, η = 5."""
    controller = MovePenalty(form=form, target=0.03, rate=5.0)  # pyright: ignore
    assert controller.moved(2.0, kl) == pytest.approx(expected, abs=1e-12)


def test_the_dual_step_stays_at_0_or_above() -> None:
    assert MovePenalty(form="dual", target=0.03, rate=5.0).moved(0.1, 0.0) == 0.0


def test_the_initial_coefficient_is_soon_forgotten() -> None:
    """Where KL = .1 / c falls as c rises, starts of 10⁻³ and of 10³ end within one factor of 2."""
    ends = []
    for start in (1e-3, 1e3):
        penalty = start
        for _ in range(30):
            penalty = MovePenalty(form="adaptive", target=0.01).moved(penalty, 0.1 / penalty)
        assert 0.01 / 1.5 <= 0.1 / penalty <= 0.015
        ends.append(penalty)
    assert 0.5 <= ends[0] / ends[1] <= 2


def on_table(policy: Table) -> tuple[Handles, dict[str, float], list[Group]]:
    """A run whose groups hold a dyadic policy exactly: 64 completions, each as often as π says."""
    noted: dict[str, float] = {}
    run = Handles(networks={"policy": policy}, dtype=torch.float64, record=noted.update)
    counts = (64 * policy.log_probs().detach().exp()).round().long().tolist()
    groups = [EVEN.group(0, [y]) for y, n in enumerate(counts) for _ in range(n)]
    said = spread(groups, old_logprobs=measure(groups, "policy", "logprobs", run))
    return run, noted, Penalty(initial=2.0)(said, run)


def test_what_is_measured_is_the_kl_of_old_to_new() -> None:
    """On groups that hold π_old exactly, 3 · step_kl = KL(π_old ‖ π_new) of whole completions of 3 tokens."""
    policy = dyadic_table(EVEN, 1)
    run, noted, groups = on_table(policy)
    controller = MovePenalty(form="dual", target=0.01, rate=7.0)
    assert controller(groups, run) is groups
    assert noted["step_kl"] == pytest.approx(0.0, abs=1e-15)
    assert run.state["penalty"] == pytest.approx(2 - 0.07)
    old = policy.log_probs().detach()
    with torch.no_grad():
        policy.logits.add_(torch.from_numpy(np.random.default_rng(0).normal(size=policy.logits.shape)))
    controller(groups, run)
    exact = kl(old, policy.log_probs())
    assert exact > 0.1
    assert 3 * noted["step_kl"] == pytest.approx(exact, abs=1e-10)
    assert run.state["penalty"] == pytest.approx(2 - 0.07 + 7 * (exact / 3 - 0.01))


def test_k3_by_hand() -> None:
    """One token of probability 1/2 that became 1/3: e^u − 1 − u with u = ln(2/3) is .072132."""
    u = math.log(2 / 3)
    assert math.expm1(u) - u == pytest.approx(0.0721318, abs=1e-7)
    policy = dyadic_table(EVEN, 1)
    run, noted, _ = on_table(policy)
    groups = [EVEN.group(0, [0])]
    now = measure(groups, "policy", "logprobs", run)
    MovePenalty(form="fixed")(Penalty()(spread(groups, old_logprobs=now - u), run), run)
    assert noted["step_kl"] == pytest.approx(0.0721318, abs=1e-7)
    assert run.state["penalty"] == 2.0
