"""What is refused before a server is asked, which losses take which correction, what is said on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from trueup.answerers.transport import Said, Session
from trueup.engine.method import Handles
from trueup.engine.ranks import Ranks
from trueup.errors import TrueupError
from trueup.objectives.mismatch import Corrected
from trueup.rollouts.open import corrected
from trueup.rollouts.server import Asked, GoneError, Server, server_of
from trueup.settings import discover
from trueup.settings.blocks import LoraSettings, SamplerSettings
from trueup.sources.sample import Decoding, draw_groups
from trueup.testing.methods import open_toy, tiny_config
from trueup.testing.toys import share_of_even_tokens

BOTH = frozenset({"token", "sequence"})
TAKES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("cispo", "grpo", "ppo", "ppo_ptx", "ppo_v1", "trpo"), BOTH),
    **dict.fromkeys(("reinforce", "reinforce_pp", "rloo", "scst"), BOTH),
    "gspo": frozenset({"sequence"}),
    **dict.fromkeys(("apa", "context_distillation", "distill", "hir", "online_dpo", "raft"), frozenset()),
}


def test_every_method_that_samples_from_its_policy_has_the_setting() -> None:
    having = {
        name
        for name in discover.names()
        if any(f.name == "sampler" for f in fields(vars(discover.find(name))["Config"]))
    }
    assert having == set(TAKES)


@pytest.mark.parametrize("name", TAKES)
def test_which_loss_takes_which_correction(name: str) -> None:
    module = discover.find(name)
    config = tiny_config(module)
    if name in ("distill", "context_distillation"):
        config = replace(config, completions="policy")
    method, _ = open_toy(module, config, share_of_even_tokens, None)
    for level in ("token", "sequence"):
        for bound in ("mask", "truncate"):
            sampler = SamplerSettings(kind="vllm", correction=cast(Any, f"{level}_{bound}"))
            asked = replace(config, sampler=sampler)
            if level in TAKES[name]:
                found = corrected(method, asked, Ranks())
                assert isinstance(found.objective, Corrected)
                assert found.objective.inner is method.objective
            else:
                with pytest.raises(TrueupError, match="E868"):
                    corrected(method, asked, Ranks())


def refused(config: Any, ranks: Ranks, **decoding: Any) -> str:
    """The code with which a method is refused."""
    method, _ = open_toy(
        discover.find("grpo"), tiny_config(discover.find("grpo")), share_of_even_tokens, None
    )
    given = replace(config, decoding=replace(config.decoding, **decoding))
    with pytest.raises(TrueupError) as error:
        corrected(method, given, ranks)
    return error.value.code


def test_what_no_server_is_asked_for() -> None:
    served = SamplerSettings(kind="vllm")
    grpo = replace(tiny_config(discover.find("grpo")), sampler=served)
    assert refused(grpo, Ranks(), top_p=0.9) == refused(grpo, Ranks(), top_k=40) == "E867"
    assert refused(grpo, Ranks(count=2)) == refused(grpo, Ranks(), greedy=True) == "E869"
    teacher = replace(tiny_config(discover.find("distill")), sampler=served, completions="teacher")
    assert refused(teacher, Ranks()) == "E869"
    ppo = tiny_config(discover.find("ppo"))
    old = replace(
        ppo, sampler=replace(served, correction="token_mask"), algorithm=replace(ppo.algorithm, old="sampler")
    )
    method, _ = open_toy(discover.find("ppo"), old, share_of_even_tokens, None)
    with pytest.raises(TrueupError, match="law already"):
        corrected(method, old, Ranks())


def test_only_the_policys_completions_come_from_the_sampler() -> None:
    module = discover.find("grpo")
    method, handles = open_toy(module, tiny_config(module), share_of_even_tokens, LoraSettings(rank=2))
    asked: list[Mapping[str, Any]] = []

    def sampler(prompts: Any, **given: Any) -> list[Any]:
        asked.append(given)
        return list(prompts)

    there = replace(handles, sampler=sampler)
    groups = list(method.source(0, there))
    assert len(groups) == 4 and asked[0]["k"] == 8 and isinstance(asked[0]["handles"], Handles)
    how: Any = {"decode": str, "stop_ids": (0,), "k": 1, "decoding": Decoding(max_new_tokens=2), "seed": 0}
    drawn = draw_groups(groups, "reference", there, **how)
    assert len(asked) == 1 and all(c.source == "reference" for g in drawn for c in g.completions)


# ------------------------------------------------------------------------------------------ the wire


@dataclass
class Answering:
    """A session that answers what it is told to, and remembers what it was asked."""

    status: int = 200
    said: Any = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def post(self, url: str, body: bytes) -> Said:
        self.asked.append((url, json.loads(body)))
        return Said(self.status, 0.0, json.dumps(self.said).encode())


def choice(**parts: Any) -> dict[str, Any]:
    """An answer of vLLM's with one completion."""
    given = {"token_ids": [7, 2], "prompt_token_ids": [5, 6], "logprobs": {"token_logprobs": [-1.0, -0.5]}}
    return {"choices": [{**given, **parts}]}


ASKED = Asked(
    prompt=np.array([5, 6]), seed=3, decoding=Decoding(temperature=0.7, max_new_tokens=4), stop_ids=(2,)
)


def complete(session: Answering, kind: Any = "vllm") -> Any:
    """What the server of this session completes `ASKED` with."""
    return server_of(SamplerSettings(kind=kind)).complete(cast(Session, session), "trueup-1", ASKED)


def test_a_request_says_everything_that_servers_have_defaults_for() -> None:
    session = Answering(said=choice())
    drawn = complete(session)
    assert (drawn.tokens.tolist(), drawn.logprobs.tolist(), drawn.finished) == ([7, 2], [-1.0, -0.5], True)
    ((url, body),) = session.asked
    assert url == "http://127.0.0.1:8000/v1/completions"
    assert body == {
        "model": "trueup-1", "prompt": [5, 6], "max_tokens": 4, "n": 1, "seed": 3, "logprobs": 0,
        "return_token_ids": True, "stream": False,
        "temperature": 0.7, "top_p": 1.0, "top_k": -1, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "stop_token_ids": [2], "ignore_eos": True,
    }  # fmt: skip


def test_sglangs_answer() -> None:
    said = {"output_ids": [7, 2], "meta_info": {"output_token_logprobs": [[-1.0, 7, None], [-0.5, 2, None]]}}
    session = Answering(said=said)
    drawn = complete(session, "sglang")
    assert (drawn.tokens.tolist(), drawn.logprobs.tolist(), drawn.finished) == ([7, 2], [-1.0, -0.5], True)
    ((url, body),) = session.asked
    assert url.endswith("/generate") and body["input_ids"] == [5, 6] and body["return_logprob"] is True
    assert body["sampling_params"]["sampling_seed"] == 3 and body["sampling_params"]["top_k"] == -1


WRONG: dict[str, Any] = {
    "no token ids": choice(token_ids=None),
    "another prompt": choice(prompt_token_ids=[1, 5, 6]),
    "no log-probs": choice(logprobs=None),
    "too few log-probs": choice(logprobs={"token_logprobs": [-1.0]}),
    "no number": choice(logprobs={"token_logprobs": [-1.0, None]}),
    "above zero": choice(logprobs={"token_logprobs": [-1.0, 0.5]}),
    "behind the end": choice(token_ids=[2, 7]),
    "too long": choice(token_ids=[7] * 5, logprobs={"token_logprobs": [-1.0] * 5}),
    "cut short": choice(token_ids=[7, 7]),
    "nothing": choice(token_ids=[], logprobs={"token_logprobs": []}),
    "no choice": {"choices": []},
    "no object": [1],
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_is_none(name: str) -> None:
    with pytest.raises(TrueupError, match="E877"):
        complete(Answering(said=WRONG[name]))


def test_what_passes_and_what_does_not() -> None:
    for status in (404, 429, 503):
        with pytest.raises(GoneError):
            complete(Answering(status=status))
    with pytest.raises(TrueupError, match=r"E877 .*status 400"):
        complete(Answering(status=400))


@pytest.mark.parametrize(
    ("kind", "status", "said"), [("vllm", 400, {}), ("vllm", 404, {}), ("sglang", 200, {"success": False})]
)
def test_weights_that_are_not_taken(kind: Any, status: int, said: Any) -> None:
    server: Server = server_of(SamplerSettings(kind=kind))
    with pytest.raises(TrueupError, match="E878"):
        server.load(cast(Session, Answering(status=status, said=said)), "trueup-1", Path("there"))
