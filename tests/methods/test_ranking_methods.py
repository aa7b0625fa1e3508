"""SLiC-HF and RRHF in all their forms: where pairs and targets come from, who writes the responses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eval_stubs import tiny_model
from trueup.annotate.logprobs import measure
from trueup.engine.groups import Group, Score
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Parts
from trueup.errors import TrueupError
from trueup.methods import rrhf, seq2seq_hinge, slic_hf, triplet
from trueup.models.load import save
from trueup.objectives.calibration import SLiC
from trueup.runs.meter import METRICS, read
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import run_stage
from trueup.settings import config as configuration
from trueup.settings.blocks import LoopSettings
from trueup.sources.joined import Joined
from trueup.sources.sample import Decoding
from trueup.testing import check_method, tiny_config
from trueup.testing.toys import STOP, share_of_even_tokens, tiny_network, toy_groups
from trueup.update.adamw import AdamW

SHORT = Decoding(max_new_tokens=6)
CANDIDATES = slic_hf.Candidates(
    num_completions=3, decoding=Decoding(max_new_tokens=6, temperature=0.7, top_k=8)
)


def parts(groups: list[Group], held_out: int = 3) -> Parts:
    return Parts(groups=groups, held_out=toy_groups(held_out, seed=2), decode=str, stop_ids=(STOP,))


def running(method: Method, groups: list[Group] | None = None) -> Handles:
    """Handles with tiny networks for the method's roles, and the toy judge."""
    networks = {
        n: tiny_network(role.heads, trained=role.trained, seed=len(role.start))
        for n, role in method.networks.items()
    }
    return Handles(networks=networks, judge=share_of_even_tokens)


def demonstrations(count: int) -> list[Group]:
    return [
        replace(g, completions=g.completions[:1], comparisons=(), rankings=())
        for g in toy_groups(count, seed=7)
    ]


# ------------------------------------------------------------------------------------------ SLiC-HF


@pytest.mark.parametrize("which", ["all", "extremes", "tournament"])
@pytest.mark.parametrize("target", ["chosen", "best"])
def test_sample_rank_repeats_and_resumes(which: str, target: str, tmp_path: Path) -> None:
    config = replace(
        tiny_config(slic_hf),
        pairs="sample_rank",
        target=target,
        judge="given",
        candidates=replace(CANDIDATES, pairs=which),
    )
    check_method(slic_hf, tmp_path, config=config)


def test_candidates_are_the_initial_policys() -> None:
    """After training, what is sampled for a step is what it would have been before."""
    config = replace(
        tiny_config(slic_hf), pairs="sample_rank", judge="given", candidates=CANDIDATES, update=AdamW(lr=0.05)
    )
    method = slic_hf.build(config, parts(toy_groups(8)))
    handles = running(method)
    before = [[c.tokens.tolist() for c in g.completions] for g in method.source(5, handles)]  # pyright: ignore
    fit(method, handles, num_steps=3, groups_per_step=4)
    after = method.source(5, handles)
    assert [[c.tokens.tolist() for c in g.completions] for g in after] == before  # pyright: ignore
    assert {c.source for g in after for c in g.completions} == {"reference"}


def test_demonstrations_stand_beside_the_pairs() -> None:
    """The hinge sees the pairs, the likelihood the rows without judgement; each has its own count."""
    config = slic_hf.Config(target="demonstrations", nll_weight=0.3, loop=LoopSettings(batch=4))
    method = slic_hf.build(config, parts(toy_groups(6) + demonstrations(5)))
    handles = running(method)
    groups = method.annotate[0](method.source(0, handles), handles)
    assert all(g.pairs() for g in groups)
    said = Step(method, handles, groups, 0).evaluate()
    beside = method.beside[0].groups(groups, 0, handles)
    assert [len(g.completions) for g in beside] == [1] * 4
    nll = -sum(float(_logprobs(handles, g).sum()) for g in beside) / 4
    assert said["loss/demonstrations"] == pytest.approx(nll, rel=1e-5)
    assert said["loss"] == pytest.approx(said["loss/hinge"] + 0.3 * said["loss/demonstrations"])
    with pytest.raises(TrueupError, match="E604"):
        slic_hf.build(config, parts(toy_groups(6)))


def _logprobs(handles: Handles, group: Group) -> np.ndarray:
    return measure([group], "policy", "logprobs", handles).numpy()


def test_files_that_only_score_make_pairs(tmp_path: Path) -> None:
    groups = [
        replace(g, comparisons=(), rankings=(), scores=scores)
        for g in toy_groups(6)
        for scores in [tuple(Score(completion=i, value=float(i), judge="j") for i in (0, 1))]
    ]
    for module in (slic_hf, rrhf):
        method = module.build(tiny_config(module), parts(groups))
        (first, *_) = method.annotate[0](method.source(0, running(method)), running(method))
        assert [(p.chosen, p.rejected) for p in first.pairs()] == [(1, 0)]


def test_samples_without_a_judge_are_refused() -> None:
    with pytest.raises(TrueupError, match=r"E730 .*`--judge FOLDER`"):
        slic_hf.build(slic_hf.Config(pairs="sample_rank"), parts(toy_groups()))
    with pytest.raises(TrueupError, match=r"E730 .*`--judge FOLDER`"):
        rrhf.build(rrhf.Config(responses=rrhf.Responses(policy=2)), parts(toy_groups()))


# ------------------------------------------------------------------------------------------ RRHF


MIXES = {
    "policy": rrhf.Responses(files=False, policy=3, decoding=SHORT),
    "initial": rrhf.Responses(initial=2, decoding=SHORT),
    "everyone": rrhf.Responses(policy=2, initial=1, others=("one", "another"), each=2, decoding=SHORT),
}


@pytest.mark.parametrize("name", MIXES)
def test_every_mix_of_writers_repeats_and_resumes(name: str, tmp_path: Path) -> None:
    config = replace(tiny_config(rrhf), judge="given", responses=MIXES[name])
    check_method(rrhf, tmp_path, config=config)


def test_responses_of_all_writers_stand_under_one_prompt() -> None:
    config = rrhf.Config(
        judge="given", responses=MIXES["everyone"], loop=LoopSettings(batch=4), update=AdamW(lr=3e-4)
    )
    method = rrhf.build(config, parts(toy_groups(6)))
    assert set(method.networks) == {"policy", "reference", "other_0", "other_1"}
    assert [role.start for role in method.networks.values()] == ["", "", "one", "another"]
    assert method.trains == ("policy",)
    handles = running(method)
    for group in method.source(0, handles):
        written = [c.source for c in group.completions]
        kept = len(next(g for g in toy_groups(6) if g.id == group.id).completions)
        expected = ["policy"] * 2 + ["reference"] + ["other_0"] * 2 + ["other_1"] * 2
        assert written == [""] * kept + expected
        assert not group.pairs()  # the judge has to compare them all
    progress = fit(method, handles, num_steps=1, groups_per_step=4)
    assert 4 * 7 <= progress.tokens_sampled <= 4 * 7 * 6  # the files' completions are not counted


def test_sampled_alone_they_say_how_they_were_sampled() -> None:
    for keep, writes in ((True, frozenset()), (False, frozenset({"sampled_logprobs"}))):
        joined = Joined(prompts=toy_groups(2), batch=2, writers={}, decode=str, stop_ids=(STOP,), keep=keep)
        assert joined.writes == writes


def test_a_writer_with_other_tokens_is_refused() -> None:
    joined = Joined(
        prompts=toy_groups(2), batch=2, writers={"other_0": 1}, decode=str, stop_ids=(STOP,), decoding=SHORT
    )
    mine, foreign = (
        SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda v=v: {"a": v})) for v in (0, 1)
    )
    with pytest.raises(TrueupError, match="E729"):
        joined(0, Handles(networks={"policy": mine, "other_0": foreign}))  # pyright: ignore


def test_ranking_by_likelihood_learns_the_judge() -> None:
    """As a reward model: held-out completions are ranked by mean log-probability as the judge ranks them."""
    config = replace(tiny_config(rrhf), judge="given", nll_weight=0.1, update=AdamW(lr=1e-2, warmup=0.0))
    method = rrhf.build(config, parts(toy_groups(40, seed=5), held_out=30))
    handles = running(method)
    assert method.held_out is not None

    def accuracy() -> float:
        groups = method.held_out(0, handles)  # pyright: ignore[reportOptionalCall]
        for annotator in method.annotate:
            groups = annotator(groups, handles)
        return Step(method, handles, groups).evaluate()["accuracy"]

    before = accuracy()
    fit(method, handles, num_steps=40, groups_per_step=4)
    assert accuracy() > max(before + 0.1, 0.7)


# ------------------------------------------------------------------------------------------ the others


@pytest.mark.parametrize("changes", [{"loss": "dssm"}, {"normalise": False}, {"semi_hard": True}], ids=str)
def test_forms_of_the_embedder_repeat_and_resume(changes: dict[str, object], tmp_path: Path) -> None:
    check_method(triplet, tmp_path, config=replace(tiny_config(triplet), **changes))


@pytest.mark.parametrize("loss", ["triplet", "dssm"])
def test_an_embedder_learns_the_order(loss: str) -> None:
    config = replace(tiny_config(triplet), loss=loss, update=AdamW(lr=1e-2, warmup=0.0))
    method = triplet.build(config, parts(toy_groups(12)))
    handles = running(method)
    step = Step(method, handles, toy_groups(12))
    before = step.evaluate()["accuracy"]
    fit(method, handles, num_steps=25, groups_per_step=4)
    assert step.evaluate()["accuracy"] > max(before, 0.8)


def test_the_hinge_opens_the_gap() -> None:
    config = replace(tiny_config(seq2seq_hinge), update=AdamW(lr=1e-2, warmup=0.0))
    method = seq2seq_hinge.build(config, parts(toy_groups(12)))
    handles = running(method)
    step = Step(method, handles, toy_groups(12))
    before = step.evaluate()
    fit(method, handles, num_steps=20, groups_per_step=4)
    after = step.evaluate()
    assert after["loss/hinge"] < before["loss/hinge"] / 2
    assert after["logprobs/margins"] > before["logprobs/margins"]


def test_an_embedder_judges_what_best_of_n_samples(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "base")
    model = ["--model.path", str(tmp_path / "base")]
    given = [*model, "--loop.steps", "1", "--loop.batch", "2", "--data.limit", "12"]
    trained = run_stage(single_stage("triplet", configuration.parse_overrides(given), tmp_path / "embedder"))
    judge = str(tmp_path / "embedder" / trained.output)
    given = [*model, "--judge", judge, "--data.limit", "4", "--n", "2", "--decoding.max_new_tokens", "6"]
    done = run_stage(single_stage("best_of_n", configuration.parse_overrides(given), tmp_path / "best"))
    assert -1 <= done.metrics["score"] <= done.metrics["best_score"] <= 1


def test_demonstrations_are_mixed_in_by_the_data_settings(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "base")
    given = [
        *("--model.path", str(tmp_path / "base"), "--target", "demonstrations"),
        *("--data.mix.pairs", "lab:comparisons", "--data.mix.sft", "lab:demonstrations"),
        *("--data.limit", "12", "--loop.steps", "1", "--loop.batch", "2"),
    ]
    run_stage(single_stage("slic_hf", configuration.parse_overrides(given), tmp_path / "run"))
    first, *_ = read(tmp_path / "run" / METRICS)
    assert first["loss/demonstrations"] > 0
    assert "loss/target" not in first


def test_the_likelihood_of_the_target_weighs_as_much_as_the_hinge() -> None:
    """Measured: with a tenth of it completions grow by half (docs/methods/slic_hf.md)."""
    built = slic_hf.build(slic_hf.Config(), parts(toy_groups(4)))
    assert isinstance(built.objective, SLiC) and built.objective.nll_weight == SLiC().nll_weight == 1.0
