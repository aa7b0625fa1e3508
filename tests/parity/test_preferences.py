"""TRL as an oracle: its trainers' losses and gradients on the same batch, from the same weights.

TRL pads and runs each completion with its prompt; trueup packs. Where a definition differs, the test checks
the algebra that the method's page gives.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

import trueup.lab
from trueup.engine.groups import Comparison, Group, Score
from trueup.engine.loop import Step
from trueup.engine.method import Handles, Method, Parts
from trueup.methods import dpo, ipo, kto
from trueup.models.load import from_modules
from trueup.testing.toys import tiny_network, toy_groups

# Deprecations inside TRL and the libraries beneath it; none is raised by a line of ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TOLERANCE = 1e-5
Numbers = tuple[float, dict[str, Tensor]]


def llama(seed: int) -> LlamaForCausalLM:
    """A random Llama of two layers over the toy vocabulary."""
    config = tiny_network().config  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for p in model.parameters():  # far enough apart that every term of a loss matters
            p.mul_(3 if p.dim() > 1 else 1)
    return model


POLICY, REFERENCE = llama(1), llama(2)


def pairs() -> list[Group]:
    """Groups of uneven shape with one comparison each, every token supervised."""
    return [
        replace(
            group,
            completions=tuple(replace(c, supervised=None) for c in group.completions[:2]),
            comparisons=(Comparison(a=i % 2, b=1 - i % 2, choice="a"),),
            rankings=(),
        )
        for i, group in enumerate(toy_groups(6, seed=3))
    ]


def ours(method: Method, groups: Sequence[Group], policy: Any, reference: Any) -> Numbers:
    """Loss and gradient of the method on these groups in this order."""
    networks = {"policy": from_modules(copy.deepcopy(policy), None)}
    networks["reference"] = from_modules(copy.deepcopy(reference), None)
    handles = Handles(networks=networks, microbatch_tokens=40)
    annotated = list(groups)
    with torch.no_grad():
        for annotator in method.annotate:
            annotated = annotator(annotated, handles)
    loss = Step(method, handles, annotated).backward()["loss"]
    return loss, gradient(networks["policy"].module["model"])  # pyright: ignore


def gradient(model: torch.nn.Module) -> dict[str, Tensor]:
    """The gradient by parameter."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(a: Numbers, b: Numbers) -> None:
    """Value and every gradient to the tolerance; and the gradients are not all small."""
    assert a[0] == pytest.approx(b[0], abs=TOLERANCE)
    assert a[1].keys() == b[1].keys()
    assert max(float(g.abs().max()) for g in b[1].values()) > 1e-2
    for name, value in a[1].items():
        torch.testing.assert_close(value, b[1][name], atol=TOLERANCE, rtol=TOLERANCE, msg=name)


def mixed(*weighted: tuple[float, Numbers]) -> Numbers:
    """The weighted sum of losses and of their gradients."""
    names = weighted[0][1][1]
    return sum(w * loss for w, (loss, _) in weighted), {
        name: torch.stack([w * g[name] for w, (_, g) in weighted]).sum(0) for name in names
    }


# ------------------------------------------------------------------------------------------ TRL's side


def theirs(trainer: Any, rows: Sequence[Mapping[str, Any]]) -> Numbers:
    """Loss and gradient of one of TRL's trainers on rows of token ids."""
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(rows)))
    loss.backward()
    return loss.item(), gradient(trainer.model)


def settings(folder: Path, **given: Any) -> dict[str, Any]:
    """Arguments that every trainer of TRL's needs to stay on this machine and in float32."""
    return {
        "output_dir": str(folder),
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        **given,
    }


def networks(policy: Any, reference: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of both models, with a data set of one row that nothing is taken from."""
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(Path(trueup.lab.__file__).parent / "base")
    return {
        "model": copy.deepcopy(policy),
        "ref_model": copy.deepcopy(reference),
        "train_dataset": Dataset.from_list([dict(row)] * 2),
        "processing_class": tokenizer,
    }


def trl_pairs(folder: Path, groups: Sequence[Group], policy: Any = POLICY, **given: Any) -> Numbers:
    """TRL's DPO trainer on the comparisons of the groups."""
    from trl import DPOConfig, DPOTrainer

    models = networks(policy, REFERENCE, {"prompt": "a", "chosen": "b", "rejected": "c"})
    trainer = DPOTrainer(args=DPOConfig(**settings(folder, **given)), **models)
    return theirs(
        trainer,
        [
            {
                "prompt_ids": ids(g.prompt_tokens),
                "chosen_ids": ids(g.completions[g.pairs()[0].chosen].tokens),
                "rejected_ids": ids(g.completions[g.pairs()[0].rejected].tokens),
            }
            for g in groups
        ],
    )


def ids(tokens: Any) -> list[int]:
    """Token ids as a list."""
    return [int(token) for token in tokens]


def parts() -> Parts:
    """Any groups, to build a method from."""
    return Parts(groups=pairs(), held_out=[], decode=str, stop_ids=())


# ------------------------------------------------------------------------------------------ pairs


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "robust"])
def test_dpo(loss: Any, tmp_path: Path) -> None:
    smoothing = 0.2 if loss == "robust" else 0.0
    method = dpo.build(dpo.Config(beta=0.3, loss=loss, label_smoothing=smoothing), parts())
    expected = trl_pairs(tmp_path, pairs(), beta=0.3, loss_type=[loss], label_smoothing=smoothing)
    assert_equal(ours(method, pairs(), POLICY, REFERENCE), expected)


@pytest.mark.parametrize(
    ("divergence", "name"),
    [("forward_kl", "forward_kl"), ("jensen_shannon", "js_divergence"), ("alpha", "alpha_divergence")],
)
def test_dpo_with_other_divergences(divergence: Any, name: str, tmp_path: Path) -> None:
    """TRL's `f_alpha_divergence_coef` is 1 − α."""
    method = dpo.build(dpo.Config(beta=0.3, divergence=divergence, alpha=0.3), parts())
    given = {"f_divergence_type": name, "f_alpha_divergence_coef": 0.7}
    near = copy.deepcopy(POLICY)
    with torch.no_grad():  # so near the reference that 1/u stays of the size of 1
        for p, q in zip(near.parameters(), REFERENCE.parameters(), strict=True):
            p.copy_(q + 0.05 * (p - q))
    expected = trl_pairs(tmp_path, pairs(), policy=near, beta=0.3, **given)
    assert_equal(ours(method, pairs(), near, REFERENCE), expected)


def test_conservative_dpo(tmp_path: Path) -> None:
    """(1 − ε) of TRL's loss and ε of its loss with chosen and rejected exchanged: TRL's own has no ε."""
    exchanged = [
        replace(g, comparisons=(replace(g.comparisons[0], a=g.comparisons[0].b, b=g.comparisons[0].a),))
        for g in pairs()
    ]
    plain, flipped = (
        trl_pairs(tmp_path, groups, beta=0.3, loss_type=["sigmoid"]) for groups in (pairs(), exchanged)
    )
    method = dpo.build(dpo.Config(beta=0.3, label_smoothing=0.2), parts())
    assert_equal(ours(method, pairs(), POLICY, REFERENCE), mixed((0.8, plain), (0.2, flipped)))


def test_ipo_with_means(tmp_path: Path) -> None:
    method = ipo.build(ipo.Config(beta=0.4), parts())
    expected = trl_pairs(tmp_path, pairs(), beta=0.4, loss_type=["ipo"])
    assert_equal(ours(method, pairs(), POLICY, REFERENCE), expected)


# ------------------------------------------------------------------------------------------ labels


def unpaired() -> list[Group]:
    """One completion a group, called good or bad."""
    return [
        replace(
            group,
            completions=(replace(group.completions[0], supervised=None),),
            comparisons=(),
            rankings=(),
            scores=(Score(completion=0, value=float(i % 3 != 1), judge="label"),),
        )
        for i, group in enumerate(toy_groups(6, seed=5))
    ]


@pytest.mark.parametrize("exchanged", [False, True], ids=["ahead", "exchanged"])
def test_kto(exchanged: bool, tmp_path: Path) -> None:
    """TRL cycles completions by one in a batch, as the annotator does in a step; exchanged, z0 is 0."""
    from trl import KTOConfig, KTOTrainer

    policy, reference = (REFERENCE, POLICY) if exchanged else (POLICY, REFERENCE)
    models = networks(policy, reference, {"prompt": "a", "completion": "b", "label": True})
    args = settings(tmp_path, beta=0.3, desirable_weight=0.9, undesirable_weight=1.2)
    trainer = KTOTrainer(args=KTOConfig(per_device_train_batch_size=2, **args), **models)
    groups = unpaired()
    rows = [
        {
            "prompt_ids": ids(group.prompt_tokens),
            "completion_ids": ids(group.completions[0].tokens),
            "KL_completion_ids": ids(before.completions[0].tokens),
            "label": group.scores[0].value > 0,
        }
        for before, group in zip([groups[-1], *groups[:-1]], groups, strict=True)
    ]
    config = kto.Config(beta=0.3, desirable_weight=0.9, undesirable_weight=1.2)
    method = kto.build(config, replace(parts(), groups=groups))
    found = ours(method, method.source.groups, policy, reference)  # pyright: ignore
    assert_equal(found, theirs(trainer, rows))
    assert (trainer._metrics["train"]["kl"][-1] > 0) == (not exchanged)
