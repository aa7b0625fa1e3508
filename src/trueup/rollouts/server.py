"""What is said to an inference server: token ids there and back, weights by the name of a folder.

Of vLLM's server the paths `/v1/completions`, `/v1/load_lora_adapter`, `/v1/unload_lora_adapter`, `/v1/models`
and `/health` are used; of SGLang's `/generate`, `/update_weights_from_disk` and `/health`. No tensor and no
pickle travels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from trueup.answerers.addresses import check_literal
from trueup.answerers.open import key_fault
from trueup.answerers.transport import (
    TRANSIENT,
    NoAnswerError,
    Said,
    Session,
    Transport,
    WrongAnswerError,
    beginning,
    object_of,
)
from trueup.errors import TrueupError
from trueup.models.generate import Sampled
from trueup.settings.blocks import SamplerSettings
from trueup.settings.secret import bare, fault_of_address
from trueup.sources.sample import Decoding

Kind = Literal["vllm", "sglang"]
WHERE = "sampler.url"


class GoneError(Exception):
    """The server is away, or has lost the weights that it was sent; says how that showed."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One completion to be drawn."""

    prompt: np.ndarray
    seed: int
    decoding: Decoding
    stop_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Server:
    """An inference server at an address."""

    kind: Kind
    transport: Transport = field(repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        return self.transport.url

    def up(self, session: Session) -> None:
        """Nothing; raises GoneError unless the server says that it is well."""
        self._status(session, "GET", "/health", {})

    def names(self, session: Session) -> list[str]:
        """The models and adapters that a vLLM server knows."""
        said = self._status(session, "GET", "/v1/models", {})
        try:
            return [str(one["id"]) for one in object_of(said.body)["data"]]
        except (WrongAnswerError, KeyError, TypeError) as error:
            raise self._wrong("/v1/models", f"no list of models: {error}") from None

    def load(self, session: Session, name: str, folder: Path) -> None:
        """Nothing; the server has the folder's weights. E878 where it refuses them."""
        if self.kind == "vllm":
            path, body = "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}
        else:
            path = "/update_weights_from_disk"
            body = {"model_path": str(folder), "weight_version": name, "flush_cache": True}
        said = self._status(session, "POST", path, body, fine=(200, 400, 403, 404, 405, 422, 500))
        # SGLang answers a failure with 400, or with `success: false`.
        failed = said.status != 200 or (self.kind == "sglang" and not _success(said.body))
        if failed:
            raise TrueupError(
                "E878",
                f"the server did not take weights: status {said.status}, {beginning(said.body)}",
                where=f"{self.url}{path}",
                remedy=_TO_LOAD[self.kind],
            )

    def unload(self, session: Session, name: str) -> None:
        """Nothing; a vLLM server has forgotten the adapter, if it had it."""
        if self.kind == "vllm":
            body = {"lora_name": name}
            self._status(session, "POST", "/v1/unload_lora_adapter", body, fine=(200, 400, 404))

    def complete(self, session: Session, name: str, asked: Asked) -> Sampled:
        """One completion with its log-probs, of the weights of that name.

        Raises GoneError where none comes, E877 for one that is not what was asked for.
        """
        path, body = _vllm(name, asked) if self.kind == "vllm" else _sglang(asked)
        said = self._status(session, "POST", path, body)
        try:
            answer = object_of(said.body)
            found = _of_vllm(answer, asked) if self.kind == "vllm" else _of_sglang(answer)
            return _checked(found, asked)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__} {error} in {beginning(said.body)}"
            raise self._wrong(path, reason) from None
        except WrongAnswerError as error:
            raise self._wrong(path, str(error)) from None

    def _status(
        self,
        session: Session,
        method: str,
        path: str,
        body: Mapping[str, Any],
        fine: Sequence[int] = (200,),
    ) -> Said:
        """What was answered, with one of the statuses; GoneError where it may pass, else E877."""
        try:
            url = self.url + path
            said = session.get(url) if method == "GET" else session.post(url, json.dumps(body).encode())
        except NoAnswerError as error:
            raise GoneError(str(error)) from None
        if said.status in fine:
            return said
        # A server that was started again knows no adapter: 404.
        if said.status in TRANSIENT or (said.status == 404 and body.get("model")):
            raise GoneError(f"status {said.status}: {beginning(said.body)}")
        raise self._wrong(path, f"status {said.status}: {beginning(said.body)}")

    def _wrong(self, path: str, reason: str) -> TrueupError:
        remedy = f"is it {self.kind}, started as docs/rollouts.md says, with the run's model and room for it?"
        return TrueupError("E877", reason, where=f"{self.url}{path}", remedy=remedy)


_TO_LOAD = {
    "vllm": "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and --max-lora-rank of at least "
    "model.lora.rank, where it can read the run's folder",
    "sglang": "start it where it can read the run's folder; the next start writes the weights anew",
}


def server_of(settings: SamplerSettings) -> Server:
    """The server of the settings; nothing is asked of it yet. Raises E869 for an address or key of no use."""
    url = settings.url.rstrip("/")
    if fault := fault_of_address(url):
        raise _refused(url, fault, "name a variable of the environment: --sampler.key NAME")
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, known = None, False
    if parts is None or not known or parts.query or parts.fragment or parts.path.endswith("/v1"):
        raise _refused(url, "no address of a server", "write http://HOST:PORT, without /v1")
    check_literal(parts.hostname or "")
    key = ""
    if settings.key:
        key = os.environ.get(settings.key, "")
        if not key:
            remedy = f"export {settings.key}, or leave sampler.key out"
            raise _refused(url, "the variable that `sampler.key` names is not set", remedy)
        if fault := key_fault(key, parts):
            raise _refused(url, *fault)
    assert settings.kind != "own"
    return Server(kind=settings.kind, transport=Transport(url=url, key=key, timeout=settings.timeout))


def _refused(url: str, reason: str, remedy: str) -> TrueupError:
    return TrueupError("E869", reason, where=f"{WHERE} {bare(url)}", remedy=remedy)


# --------------------------------------------------------------------------------------------- the wire

_PLAIN = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Said outright: what a request leaves out, servers take from the model's generation_config.json."""


def _sampling(asked: Asked) -> dict[str, Any]:
    return _PLAIN | {
        "temperature": 0.0 if asked.decoding.greedy else asked.decoding.temperature,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": list(asked.stop_ids),
        # Our stop ids alone end a completion.
        "ignore_eos": True,
    }


def _vllm(name: str, asked: Asked) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {
        **_sampling(asked),
        "model": name,
        "prompt": asked.prompt.tolist(),
        "max_tokens": asked.decoding.max_new_tokens,
        "n": 1,
        "seed": asked.seed,
        "logprobs": 0,
        "return_token_ids": True,
        "stream": False,
    }


def _sglang(asked: Asked) -> tuple[str, dict[str, Any]]:
    said = {"max_new_tokens": asked.decoding.max_new_tokens, "n": 1, "sampling_seed": asked.seed}
    return "/generate", {
        "input_ids": asked.prompt.tolist(),
        "sampling_params": {**_sampling(asked), **said},
        "return_logprob": True,
        "logprob_start_len": -1,
        "stream": False,
    }


def _of_vllm(answer: Mapping[str, Any], asked: Asked) -> tuple[Any, Any]:
    (choice,) = answer["choices"]
    read = choice.get("prompt_token_ids")
    if read is not None and list(read) != asked.prompt.tolist():
        raise WrongAnswerError("the server read another prompt than the token ids that it was sent")
    if choice.get("token_ids") is None:
        raise WrongAnswerError("no token_ids: the server does not know return_token_ids")
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def _of_sglang(answer: Mapping[str, Any]) -> tuple[Any, Any]:
    said = answer["meta_info"]["output_token_logprobs"]
    return [int(one[1]) for one in said], [one[0] for one in said]


def _checked(found: tuple[Any, Any], asked: Asked) -> Sampled:
    """The completion, if it is one that our decoder could have drawn."""
    tokens, logprobs = np.asarray(found[0], np.int64), np.asarray(found[1], np.float64)
    if len(tokens) == 0 or tokens.shape != logprobs.shape:
        raise WrongAnswerError(f"{len(tokens)} tokens with {len(logprobs)} log-probs")
    if not np.isfinite(logprobs).all() or (logprobs > 1e-3).any() or (tokens < 0).any():
        raise WrongAnswerError("a log-prob above 0 or of no number, or a token id below 0")
    ends = np.isin(tokens, asked.stop_ids)
    finished, most = bool(ends[-1]), asked.decoding.max_new_tokens
    if ends[:-1].any() or len(tokens) > most:
        raise WrongAnswerError(f"it went on behind an end token, or over {most} tokens")
    if not finished and len(tokens) < most:
        raise WrongAnswerError(
            f"it ended after {len(tokens)} of {most} tokens without an end token of ours; "
            "is its context (--max-model-len) long enough?"
        )
    return Sampled(tokens.astype(np.int32), logprobs.astype(np.float32), finished)


def _success(body: bytes) -> bool:
    try:
        return object_of(body).get("success", True) is True
    except WrongAnswerError:
        return True
