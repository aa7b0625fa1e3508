"""The sentences say what the numbers say, and claim no more."""

from __future__ import annotations

from typing import Any

from trueup.reports.headline import details, headline, label, over_optimised
from trueup.reports.record import FrontierPoint, Interval, parse_policies


def _summary(**policies: dict[str, Any]) -> Any:
    return parse_policies({"policies": policies})


def _gain(mean: float, half: float) -> dict[str, Any]:
    return {"over": "sft", "mean": mean, "ci95": [mean - half, mean + half]}


def test_headline_names_the_largest_gain_its_distance_and_its_tax() -> None:
    tax = {
        "copying": {"delta": -0.04, "ci95": [-0.06, -0.02]},
        "sums": {"delta": -0.01, "ci95": [-0.03, 0.01]},
    }
    lost = {"copying": {"delta": -0.2, "ci95": [-0.3, -0.1]}}
    policies = _summary(
        dpo={"gain": _gain(0.05, 0.03), "tax_over_start": {"sums": {"delta": 0.1, "ci95": [0.05, 0.15]}}},
        ppo={"gain": _gain(0.123, 0.03), "kl": {"mean": 2.1}, "tax": lost, "tax_over_start": tax},
    )
    assert headline(policies).replace("\u00a0", " ") == (
        "PPO raised gold reward over SFT by +0.123 [+0.093, +0.153] at KL 2.10; "
        "tax on 1 of 2 exams: copying −0.040."
    )
    assert [s.replace("\u00a0", " ") for s in details(policies, ())] == [
        "DPO raised gold reward over SFT by +0.050 [+0.020, +0.080]; no measurable tax on 1 exam.",
        "Against base: PPO, tax on 1 of 1 exam: copying −0.200.",
    ]


def test_a_sentence_has_one_baseline() -> None:
    """Where the tax over the start was not measured, the base's stands in a sentence of its own."""
    tax = {"copying": {"delta": -0.04, "ci95": [-0.06, -0.02]}}
    policies = _summary(
        base={},
        sft={"gain": {"over": "base", "mean": 0.2, "ci95": [0.1, 0.3]}, "tax": tax},
        ppo={"gain": _gain(0.4, 0.03), "tax": tax},
    )
    said = [headline(policies), *details(policies, ())]
    assert [s.replace("\u00a0", " ") for s in said] == [
        "PPO raised gold reward over SFT by +0.400 [+0.370, +0.430].",
        "SFT raised gold reward over base by +0.200 [+0.100, +0.300]; tax on 1 of 1 exam: copying −0.040.",
        "Against base: PPO, tax on 1 of 1 exam: copying −0.040.",
    ]


def _best_of(n: int, kl: float, gold: float, proxy: float) -> FrontierPoint:
    interval = Interval(gold, gold - 0.03, gold + 0.03)
    return FrontierPoint(policy="best_of_16", step=n, kl=kl, kl_se=None, gold=interval, proxy=proxy)


def test_best_of_n_beside_training_and_over_optimised() -> None:
    policies = _summary(
        dpo={
            "gold": {"mean": 0.566, "ci95": [0.531, 0.601]},
            "gain": _gain(0.119, 0.03),
            "kl": {"mean": 1.23, "ci95": [1.06, 1.4], "kind": "estimate"},
        },
    )
    curve = [(1, 0.0, 0.44, 0.0), (2, 0.19, 0.54, 0.39), (4, 0.64, 0.579, 0.57), (16, 1.84, 0.52, 0.68)]
    found = details(policies, [_best_of(*row) for row in curve])
    assert found[:2] == [
        "Best-of-4 has no measurably less gold than DPO (0.579 and 0.566), at 52\u202f% of its KL "
        "(at most 0.64 of 1.23).",
        "Best-of-n over-optimised: gold peaked at 0.579 (n 4, KL 0.64) and fell to 0.520 (n 16, KL 1.84), "
        "while the proxy rose from 0.570 to 0.680.",
    ]
    weak = [_best_of(n, kl, gold - 0.2, proxy) for n, kl, gold, proxy in curve[:3]]
    assert details(policies, weak) == []


def test_no_direction_is_claimed_where_the_interval_holds_zero() -> None:
    said = headline(_summary(ppo={"gain": _gain(0.02, 0.03)}))
    assert said.startswith("PPO did not measurably change gold reward over SFT (+0.020")
    unknown = headline(_summary(ppo={"gain": {"over": "sft", "mean": 0.4}})).replace("\u00a0", " ")
    assert unknown.startswith("PPO changed gold reward over SFT by +0.400 (no interval)")


def test_a_loss_is_called_one() -> None:
    assert headline(_summary(ppo={"gain": _gain(-0.2, 0.03)})).startswith(
        "PPO lowered gold reward against SFT (−0.2"
    )


def test_without_gains_or_policies() -> None:
    assert "no gain was computed" in headline(_summary(base={"gold": 0.2}, sft={"gold": 0.4}))
    assert headline(_summary(base={"gold": 0.2}, sft={"gold": 0.4})).startswith("SFT")
    assert headline(()) == "This run holds no evaluated policy yet."


def test_a_bound_is_not_stated_as_a_value() -> None:
    said = headline(_summary(best_of_16={"gain": _gain(0.1, 0.01), "kl": {"mean": 1.835, "kind": "bound"}}))
    assert said.startswith("Best-of-16 raised")
    assert "at KL at most 1.8" in said


def _points(gold: list[float], proxy: list[float], half: float = 0.02) -> list[FrontierPoint]:
    return [
        FrontierPoint(policy="ppo", step=k, kl=k, kl_se=None, gold=Interval(g, g - half, g + half), proxy=p)
        for k, (g, p) in enumerate(zip(gold, proxy, strict=True))
    ]


def test_over_optimisation_needs_a_measurable_fall_and_a_rising_proxy() -> None:
    """Half widths of .02 add in quadrature: a fall of .0283 is where the difference's interval ends."""
    assert over_optimised(_points([0.3, 0.6, 0.5], [1, 2, 3])).startswith(
        "PPO over-optimised: gold peaked at 0.600 (step 1, KL 1.00) and fell to 0.500"
    )
    assert over_optimised(_points([0.3, 0.6, 0.5], [1, 2, 1.5])) == ""
    assert over_optimised(_points([0.3, 0.6, 0.572], [1, 2, 3])) == ""
    assert over_optimised(_points([0.3, 0.6, 0.571], [1, 2, 3])) != ""
    assert over_optimised(_points([0.3, 0.4, 0.6], [1, 2, 3])) == ""
    assert over_optimised([]) == ""


def test_labels() -> None:
    assert [label(n) for n in ("sft", "best_of_16", "best_of_n", "mine", "")] == [
        "SFT", "best-of-16", "best-of-n", "mine", "",
    ]  # fmt: skip
