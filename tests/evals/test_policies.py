"""What is measured of a policy's own samples, on tiny networks and by enumeration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval_stubs import VOCABULARY, TableNetwork, byte_chat, tiny_model, view_of
from trueup.annotate.logprobs import by_completion
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.evals.policies import best_of_n_curve, evaluate_policy, sampled_kl, shown_to
from trueup.evals.summary import (
    PolicyEntry,
    curve_points,
    frontier_point,
    rounded,
    sample_rows,
    summarise,
    write_json,
)
from trueup.evals.view import PolicyView
from trueup.reports.record import read_run
from trueup.sources.sample import Decoding

DECODING = Decoding(max_new_tokens=4)
PROMPTS = [
    Group(prompt=(Message(Role.USER, text),), id=text, meta={"request": {"kind": "letter"}})
    for text in ("a", "b", "c", "d")
]


def grade(group: Group, text: str) -> Mapping[str, Any]:
    """Gold: how much of the text is lower-case letters; made up, and depends on the text alone."""
    share = sum(ch.islower() for ch in text) / max(1, len(text))
    return {"gold": share, "helpful": share, "toxic": float("!" in text), "reasons": {"helpful": "letters"}}


def length_judge(groups: Sequence[Group]) -> list[list[float]]:
    """Longer texts score higher."""
    return [[float(len(c.text)) for c in g.completions] for g in groups]


def test_a_policy_has_no_distance_from_itself() -> None:
    view = view_of(tiny_model())
    found = evaluate_policy(
        view, PROMPTS, grade=grade, samples_per_prompt=3, decoding=DECODING, reference=view
    )
    assert found.kl is not None
    assert found.kl.shape == found.gold.shape == (4, 3)
    np.testing.assert_allclose(found.kl, 0, atol=1e-9)
    assert set(found.metrics) == {"gold", "helpful", "toxic", "length", "ended"}
    assert found.metrics["length"].max() <= 4


def test_metrics_are_those_of_the_texts() -> None:
    view = view_of(tiny_model())
    found = evaluate_policy(
        view, PROMPTS, grade=grade, samples_per_prompt=2, decoding=DECODING, judges={"proxy": length_judge}
    )
    for i, group in enumerate(found.groups):
        for k, completion in enumerate(group.completions):
            assert found.gold[i, k] == grade(group, completion.text)["gold"]
            assert found.metrics["proxy"][i, k] == len(completion.text)
            assert found.metrics["ended"][i, k] == completion.finished
    assert found.kl is None and found.kl_bound is None
    assert found.reasons[0][0] == {"helpful": "letters"}


def two_tables() -> tuple[TableNetwork, TableNetwork]:
    """Two networks over the bytes x and y only."""
    x, y = byte_chat().completion_ids("xy", finished=False, plain=True)
    tables = []
    for odds in (2.0, 0.5):
        table = torch.full((VOCABULARY, VOCABULARY), -1e9, dtype=torch.float64)
        table[:, int(x)] = math.log(odds)
        table[:, int(y)] = 0.0
        tables.append(TableNetwork(table))
    return tables[0], tables[1]


def test_kl_by_enumeration_of_every_completion() -> None:
    ours, theirs = two_tables()
    # p(x) is 2/3 against 1/3: KL a token = 1/3 · log 2, and two tokens have twice that.
    texts = ["".join(pair) for pair in product("xy", repeat=2)]
    completions = tuple(Completion(text=t, finished=False) for t in texts)
    group = Group(prompt=(Message(Role.TEXT, "q"),), completions=completions)
    policy, reference = view_of(ours), view_of(theirs, name="reference")
    encoded = policy.encode([group])
    probability = np.array([(2 / 3) ** t.count("x") * (1 / 3) ** t.count("y") for t in texts])
    k1 = sampled_kl(encoded, policy, reference)[0]
    assert probability @ k1 == pytest.approx(2 * math.log(2) / 3, rel=1e-12)
    # Both sides of every state are known, so each completion's exact KL is the same.
    np.testing.assert_allclose(exact_kl(encoded, policy, reference)[0], 2 * math.log(2) / 3, rtol=1e-12)


def exact_kl(groups: Sequence[Group], view: PolicyView, reference: PolicyView) -> np.ndarray:
    """Σ_t KL(π(· | s_t) ‖ ρ(· | s_t)) of every completion: the mean of k1, with less noise."""
    tables = []
    for policy, shown in ((view, groups), (reference, shown_to(reference, groups))):
        with torch.no_grad():
            batch = pack(list(shown)).to(policy.device, policy.handles.dtype)
            tables.append(policy.network(batch, ("distributions",)).distributions)
    ours, theirs = tables
    # 0 · log 0 is 0: a token that the policy never gives adds nothing.
    found = (ours.exp() * (ours - theirs)).nan_to_num(nan=0.0).sum(1).double().numpy()
    return np.array([[row.sum() for row in rows] for rows in by_completion(groups, found)])


def test_kl_of_a_prefixed_policy_is_to_the_bare_reference() -> None:
    network = tiny_model()
    prefix = (Message(Role.USER, "hi"), Message(Role.ASSISTANT, "hello"))
    bare = view_of(network, name="bare")
    found = evaluate_policy(
        view_of(network, prefix=prefix),
        PROMPTS,
        grade=grade,
        samples_per_prompt=32,
        decoding=DECODING,
        reference=bare,
    )
    exact = exact_kl(found.groups, view_of(network, prefix=prefix), bare)
    assert found.kl is not None and exact.min() > 0
    # Both estimate the same mean; the exact one has less noise.
    gap = found.kl.mean() - exact.mean()
    assert abs(gap) < 5 * found.kl.std() / math.sqrt(found.kl.size)
    assert exact.std() < found.kl.std()


def test_every_policy_sees_the_same_random_numbers() -> None:
    network = tiny_model()
    one = evaluate_policy(view_of(network, name="a"), PROMPTS, grade=grade, decoding=DECODING, seed=3)
    two = evaluate_policy(view_of(network, name="b"), PROMPTS, grade=grade, decoding=DECODING, seed=3)
    np.testing.assert_array_equal(one.gold, two.gold)


def test_best_of_n_takes_the_judges_choice_and_its_curve_agrees() -> None:
    network = tiny_model()
    view = view_of(network, best_of=4, judge=length_judge)
    found = evaluate_policy(
        view, PROMPTS, grade=grade, decoding=DECODING, judges={"proxy": length_judge}, reference=view
    )
    drawn = view.draw(PROMPTS, k=4, decoding=DECODING, seed=0)
    expected = [max(row) for row in length_judge(drawn)]
    assert found.metrics["proxy"][:, 0].tolist() == expected
    assert [p.n for p in found.curve] == [1, 2, 4]
    np.testing.assert_allclose(found.curve[-1].proxy, expected)
    np.testing.assert_allclose(found.curve[0].proxy, [np.mean(row) for row in length_judge(drawn)])
    assert found.kl is None
    assert found.kl_bound == pytest.approx(math.log(4) - 3 / 4)


def test_curve_by_enumeration() -> None:
    proxy, gold = [[0.0, 1.0, 2.0, 3.0]], np.array([[0.0, 1.0, 0.5, -1.0]])
    points = {p.n: p for p in best_of_n_curve(proxy, gold)}
    # n = 2: six pairs, each decided by proxy; the winners are 1, 2, 2, 3, 3, 3.
    assert points[2].proxy[0] == pytest.approx((1 + 2 * 2 + 3 * 3) / 6)
    assert points[2].gold[0] == pytest.approx((1 + 2 * 0.5 - 3) / 6)
    assert points[1].gold[0] == pytest.approx(0.125)
    assert points[4].gold[0] == pytest.approx(-1.0)


def test_kl_of_other_sampling_is_refused() -> None:
    view = view_of(tiny_model())
    with pytest.raises(TrueupError, match="E791"):
        evaluate_policy(view, PROMPTS, grade=grade, decoding=Decoding(greedy=True), reference=view)


# ------------------------------------------------------------------------------------------ summary


def entries() -> dict[str, PolicyEntry]:
    """Three policies: a base, an SFT that is another network, and best-of-4 of it."""
    base, sft = tiny_model(0), tiny_model(1)
    reference = view_of(sft, name="sft")
    measure = {"grade": grade, "decoding": DECODING, "samples_per_prompt": 2}
    return {
        "base": PolicyEntry(
            result=evaluate_policy(view_of(base, name="base"), PROMPTS, **measure),
            exams={"quiz": np.array([1.0, 1.0, 0.0, 1.0])},
        ),
        "sft": PolicyEntry(
            result=evaluate_policy(reference, PROMPTS, reference=reference, **measure),
            over="base",
            exams={"quiz": np.array([1.0, 0.0, 0.0, 1.0])},
            costs={"tokens_trained": 100, "seconds": 1.23456789},
        ),
        "best_of_4": PolicyEntry(
            result=evaluate_policy(
                view_of(sft, name="best_of_4", best_of=4, judge=length_judge),
                PROMPTS,
                judges={"proxy": length_judge},
                **measure,
            ),
            over="sft",
        ),
    }


def test_summary_holds_paired_numbers() -> None:
    found = summarise(entries(), reward_model={"accuracy": 0.6}, versions={"lab": "1"}, seed=7)
    base, sft, best = (found["policies"][name] for name in ("base", "sft", "best_of_4"))
    assert sft["tax"]["quiz"]["delta"] == pytest.approx(-0.25)
    assert base["tax"] == {} and best["tax"] == {}
    assert base["gain"] is None and base["kl"] is None and sft["kl"]["mean"] == pytest.approx(0, abs=1e-9)
    assert sft["gain"]["over"] == "base"
    assert sft["gain"]["mean"] == pytest.approx(sft["gold"]["mean"] - base["gold"]["mean"])
    assert best["kl"] == {"mean": pytest.approx(math.log(4) - 0.75), "ci95": None, "kind": "bound"}
    assert best["proxy"] > 0 and "proxy" not in base
    assert sft["win_rate_vs_sft"] is None and 0 <= best["win_rate_vs_sft"]["mean"] <= 1
    assert (found["num_prompts"], found["seed"]) == (4, 7)


def test_files_are_the_same_bytes_and_the_report_reads_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        policies = entries()
        results = {k: e.result for k, e in policies.items()}
        write_json(folder / "summary.json", summarise(policies, seed=0))
        points = [frontier_point("sft", 0, results["sft"]), *curve_points("best_of_4", results["best_of_4"])]
        write_json(folder / "frontier.json", points)
        write_json(folder / "samples.json", sample_rows(results, 2))
    for name in ("summary.json", "frontier.json", "samples.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    record = read_run(tmp_path / "one")
    assert [p.name for p in record.policies] == ["base", "sft", "best_of_4"]
    assert record.samples[0].replies["sft"].reasons == ("helpful: letters",)
    assert record.samples[0].kind == "letter"
    assert [p.step for p in record.frontier] == [0, 1, 2, 4, 8]


def test_policies_must_be_asked_the_same() -> None:
    view = view_of(tiny_model())
    one = evaluate_policy(view, PROMPTS[:2], grade=grade, decoding=DECODING)
    two = evaluate_policy(view, PROMPTS[1:3], grade=grade, decoding=DECODING)
    with pytest.raises(TrueupError, match="E826"):
        summarise({"a": PolicyEntry(result=one), "b": PolicyEntry(result=two)}, seed=0)


def test_rounding_keeps_six_digits() -> None:
    assert rounded({"a": [1 / 3, -0.0, np.int64(3), 1234567.0, True, None]}) == {
        "a": [0.333333, 0.0, 3, 1234570.0, True, None]
    }
