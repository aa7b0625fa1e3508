"""A chain that reads what nothing wrote is refused before a model loads."""

from __future__ import annotations

import pytest

from trueup.annotate.advantages import GAE, Whiten
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import Scores
from trueup.engine.method import Annotator, Method
from trueup.errors import TrueupError
from trueup.objectives.likelihood import NLL
from trueup.objectives.pairwise import DPO
from trueup.objectives.policy_gradient import Clipped
from trueup.sources.files import Files
from trueup.testing.toys import toy_groups
from trueup.update.adamw import AdamW

REFERENCE = Measure(network="reference", want="logprobs", column="ref_logprobs")
VALUES = Measure(network="value", want="values", column="old_values")
PPO: tuple[Annotator, ...] = (Scores(), OldLogprobs(), REFERENCE, VALUES, KLReward(beta=0.1), GAE(), Whiten())


def chain(*annotate: Annotator, objective: object = None, written: tuple[str, ...] = ()) -> Method:
    source = Files(groups=toy_groups(), batch=2, written=frozenset(written))
    return Method(name="mine", source=source, annotate=annotate, objective=objective or NLL(), update=AdamW())  # pyright: ignore


def test_an_objective_without_its_annotator() -> None:
    with pytest.raises(TrueupError) as raised:
        chain(objective=DPO())
    message = str(raised.value)
    assert raised.value.code == "E701"
    assert "DPO reads ref_logprobs, which no earlier stage writes" in message
    assert "method mine" in message
    chain(REFERENCE, objective=DPO())
    chain(objective=DPO(), written=("ref_logprobs",))


@pytest.mark.parametrize("missing", range(6))
def test_ppo_without_any_one_of_its_stages(missing: int) -> None:
    """Every annotator but the whitening is needed by a later one or by the objective."""
    whole = chain(*PPO, objective=Clipped(), written=("sampled_logprobs",))
    assert len(whole.annotate) == 7
    left = PPO[:missing] + PPO[missing + 1 :]
    with pytest.raises(TrueupError, match="E701"):
        chain(*left, objective=Clipped(), written=("sampled_logprobs",))


def test_the_order_counts() -> None:
    with pytest.raises(TrueupError, match="GAE reads"):
        chain(*PPO[:4], GAE(), KLReward(beta=0.1), objective=Clipped(), written=("sampled_logprobs",))
