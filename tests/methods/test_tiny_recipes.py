"""The tiny recipes run from the command's own code: on lab data, with a random model of two layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval_stubs import tiny_model
from trueup.models.load import save
from trueup.runs.meter import METRICS, read
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import run_stage
from trueup.runs.shipped import recipe_path
from trueup.settings import config as configuration

WHOLE = {
    "loss/policy", "policy/entropy", "baseline", "advantage/std", "advantage/zero", "score", "eos_rate",
    "completion_length", "kl", "beta", "reward", "sampler_gap",
}  # fmt: skip
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
KEYS = {
    "sft": {"loss/nll"},
    "imitation": {"loss/nll"},
    "best_of_n_sft": {"loss/nll", "score", "best_score", "eos_rate", "completion_length"},
    "raft": {"loss/nll", "score", "best_score", "eos_rate", "completion_length"},
    "hir": {
        "loss/nll", "loss/contrastive", "loss/entropy", "hindsight/gap", "score", "good_rate", "eos_rate",
        "completion_length",
    },
    "reward_model": {"loss/bradley_terry", "accuracy", "margin", "score"},
    "pmp": {"loss/bradley_terry", "accuracy", "margin", "score"},
    "dpo": {"loss/dpo", *REWARDS},
    "ipo": {"loss/ipo", *REWARDS},
    "simpo": {"loss/simpo", *REWARDS},
    "orpo": {"loss/orpo_nll", "loss/orpo_odds", *REWARDS},
    "kto": {"loss/kto", "kto/baseline", "kto/margin", "kto/accuracy", "kto/desirable"},
    "online_dpo": {
        "loss/dpo", *REWARDS, "preferences/share", "preferences/gap", "score", "eos_rate",
        "completion_length",
    },
    "seq2seq_hinge": {
        "loss/hinge", "logprobs/chosen", "logprobs/rejected", "logprobs/margins", "logprobs/accuracies",
    },
    "slic_hf": {
        "loss/hinge", "loss/target", "logprobs/chosen", "logprobs/rejected", "logprobs/margins",
        "logprobs/accuracies", "preferences/share", "score", "eos_rate", "completion_length",
    },
    "rrhf": {
        "loss/rank", "loss/best", "accuracy", "logprobs/mean", "preferences/share", "score", "eos_rate",
        "completion_length",
    },
    "triplet": {"loss/triplet", "distance/chosen", "distance/rejected", "accuracy"},
    "ppo": {
        "loss/policy", "loss/value", "policy/ratio", "policy/clipfrac", "policy/approxkl", "policy/entropy",
        "value/clipfrac", "value/error", "value/explained_variance", "score", "eos_rate", "completion_length",
        "kl", "beta", "reward", "returns", "sampler_gap",
    },
    "reinforce": WHOLE,
    "scst": WHOLE,
    "rloo": WHOLE,
    "grpo": (WHOLE - {"reward", "beta"})
    | {"loss/divergence", "policy/ratio", "policy/clipfrac", "policy/approxkl"},
    "gspo": (WHOLE - {"reward", "beta"})
    | {"loss/divergence", "policy/ratio", "policy/clipfrac", "policy/approxkl"},
    "cispo": (WHOLE - {"reward", "beta"})
    | {"loss/divergence", "policy/ratio", "policy/clipfrac", "policy/approxkl"},
    "reinforce_pp": (WHOLE - {"baseline", "advantage/std", "advantage/zero"})
    | {"returns", "policy/ratio", "policy/clipfrac", "policy/approxkl"},
    "prm": {"loss/stepwise", "step/accuracy", "step/probability"},
    "apa": {
        "loss/policy", "loss/value", "policy/entropy", "value/clipfrac", "value/error",
        "value/explained_variance", "score", "eos_rate", "completion_length", "kl", "beta", "reward",
        "returns", "sampler_gap",
    },
    "ppo_ptx": {
        "loss/policy", "loss/value", "loss/nll", "policy/ratio", "policy/clipfrac", "policy/approxkl",
        "policy/entropy", "value/clipfrac", "value/error", "value/explained_variance", "score", "eos_rate",
        "completion_length", "kl", "beta", "reward", "returns", "sampler_gap",
    },
    "ppo_v1": {
        "loss/policy", "loss/value", "policy/ratio", "policy/approxkl", "policy/entropy", "policy/old_kl",
        "value/clipfrac", "value/error", "value/explained_variance", "score", "eos_rate", "completion_length",
        "kl", "beta", "reward", "returns", "sampler_gap", "penalty", "step_kl",
    },
    "trpo": {
        "loss/policy", "loss/value", "policy/ratio", "policy/approxkl", "policy/entropy", "value/clipfrac",
        "value/error", "value/explained_variance", "score", "eos_rate", "completion_length", "kl", "beta",
        "reward", "returns", "sampler_gap", "trust/kl", "trust/accepted", "trust/fraction",
        "trust/improvement", "trust/cg_residual",
    },
}  # fmt: skip
KEYS = {name: keys | ({"score/trained"} if "eos_rate" in keys else set()) for name, keys in KEYS.items()}
HELD_OUT_ONLY = {"imitation": {"accuracy"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(tiny_model(), folder)
    return folder


@pytest.mark.parametrize("name", KEYS)
def test_a_tiny_recipe_runs_and_logs_what_its_page_says(name: str, model: Path, tmp_path: Path) -> None:
    layer = configuration.parse_overrides(["--model.path", str(model)])
    stage = single_stage(str(recipe_path(f"tiny-{name}")), layer, tmp_path / "run")
    done = run_stage(stage)
    assert (stage.folder / done.output / "model.safetensors").is_file()
    lines = read(stage.folder / METRICS)
    train = [line for line in lines if line["phase"] == "train"]
    assert [line["step"] for line in train] == [1, 2]
    common = {"step", "phase", "loss", "grad_norm", "lr"}
    assert set(train[0]) == common | KEYS[name]
    assert {line["phase"] for line in lines} == {"train", "eval"}
    held_out = KEYS[name] | HELD_OUT_ONLY.get(name, set())
    assert json.loads((stage.folder / "held_out.json").read_text()).keys() <= held_out
    page = (Path(__file__).parents[2] / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    missing = {key for key in held_out | set(done.metrics) - common if f"`{key}`" not in page}
    assert not missing, f"docs/methods/{name}.md does not list {sorted(missing)}"
    assert run_stage(stage) == done  # a finished run is not run again
