"""The policy's completions by a server: weights first, then each completion by a request of its own.

Completion j of prompt i is asked for with a seed that is a function of the run's seed, the step, i and j;
what the server makes of it depends on the server. A server that goes away is waited for, sent the weights
again, and asked for what is missing.
"""

from __future__ import annotations

import copy
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, final

import numpy as np
from torch import Tensor

from trueup.answerers.transport import Session
from trueup.engine import disk
from trueup.engine.groups import Group
from trueup.engine.method import Handles
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.generate import Sampled
from trueup.rollouts.gap import compare, limit_of, recomputed
from trueup.rollouts.server import Asked, GoneError, Server
from trueup.rollouts.weights import FOLDER, digest_of, written
from trueup.settings.blocks import SamplerSettings
from trueup.sources.sample import Decoding, grouped

logger = logging.getLogger("trueup")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"Seconds between two looks for a server that is away."
Place = tuple[int, int]
"Prompt and completion, by their numbers in the rollout."


@dataclass(eq=False)
class _Sent:
    """What the server was sent last."""

    name: str = ""
    digest: str = ""
    count: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    before: dict[str, Tensor] = field(default_factory=dict)
    "The trained tensors of this version and of the one before; of adapters alone."


@final
class ServedSampler:
    """A `trueup.engine.method.Sampler` over a server, for one run with its folder."""

    def __init__(
        self,
        server: Server,
        settings: SamplerSettings,
        folder: Path,
        *,
        stop_requested: Callable[[], str] = lambda: "",
    ) -> None:
        self._server, self._settings, self._stop_requested = server, settings, stop_requested
        self._folder = folder / FOLDER
        # Of this run, so that another run's adapters on the same server stay; of this process, since a server
        # keeps what it has read by name and folder, and must never meet either again with other weights.
        place = derive(0, str(folder.resolve()))
        self._prefix = f"trueup-{place:016x}-"
        self._mark = secrets.token_hex(4)
        self._sent = _Sent()

    def __call__(
        self,
        prompts: Sequence[Group],
        *,
        decode: Callable[[np.ndarray], str],
        stop_ids: tuple[int, ...],
        k: int,
        decoding: Decoding,
        seed: int,
        handles: Handles,
    ) -> list[Group]:
        """The prompts with k completions each, with `sampled_logprobs` and, unless greedy, ours beside them.

        Raises E876 where the server stays away, E875 where its log-probs are too far from ours.
        """
        network = cast(LanguageModel, handles.networks["policy"]).with_temperature(decoding.temperature)
        asked = {
            (i, j): Asked(
                prompt=cast(np.ndarray, group.prompt_tokens),
                seed=derive(seed, "served", i, j) % 2**31,
                decoding=decoding,
                stop_ids=stop_ids,
            )
            for i, group in enumerate(prompts)
            for j in range(k)
        }
        with self._server.transport.session() as session:
            drawn = self._drawn(asked, network, session)
        groups = grouped(
            prompts, [[drawn[i, j] for j in range(k)] for i in range(len(prompts))], decode, "policy"
        )
        if decoding.greedy or not groups:
            return groups  # A server's log-probs of a greedy choice are of no one law.
        groups = recomputed(groups, network, handles)
        limit = limit_of(network, self._settings.max_gap)
        compare(groups, network, handles, limit=limit, others=lambda: self._others(network))
        return groups

    def open(self) -> None:
        """Nothing; the server answers, and has forgotten what this run's earlier processes loaded."""
        with self._server.transport.session() as session:
            self._patiently(lambda: self._forget(session), lambda: 0)
        disk.remove(self._folder)

    def close(self) -> None:
        """Nothing; the server forgets the last adapter, if it still answers, and what it read goes."""
        with self._server.transport.session() as session, suppress(GoneError, TrueupError):
            self._forget(session)
        disk.remove(self._folder)

    def _forget(self, session: Session) -> None:
        self._server.up(session)
        if self._server.kind == "vllm":
            for name in self._server.names(session):
                if name.startswith(self._prefix):
                    self._server.unload(session, name)

    # ------------------------------------------------------------------------------------- completions

    def _drawn(
        self, asked: Mapping[Place, Asked], network: LanguageModel, session: Session
    ) -> dict[Place, Sampled]:
        found: dict[Place, Sampled] = {}

        def attempt() -> None:
            try:
                self._send(network, session)
                found.update(
                    self._answers({p: a for p, a in asked.items() if p not in found}, found, session)
                )
            except GoneError:
                self._sent.digest = ""  # A server that was started again has only its own weights.
                raise

        self._patiently(attempt, lambda: len(found))
        return found

    def _answers(
        self, asked: Mapping[Place, Asked], found: dict[Place, Sampled], session: Session
    ) -> dict[Place, Sampled]:
        """All answers; where one fails, those that came stand in `found`, and the error is raised."""
        name = self._sent.name
        with ThreadPoolExecutor(min(self._settings.concurrency, max(1, len(asked)))) as pool:
            waiting = {pool.submit(self._server.complete, session, name, a): p for p, a in asked.items()}
            try:
                for future in as_completed(waiting):
                    found[waiting[future]] = future.result()
                    if self._stop_requested():
                        raise GoneError("the run was asked to end")
            finally:
                for future in waiting:
                    future.cancel()
        return found

    def _patiently(self, attempt: Callable[[], object], progress: Callable[[], int]) -> None:
        """Nothing, once the attempt is made; E876 where it got nowhere for as long as patience lasts."""
        since, done, pause = time.monotonic(), progress(), FIRST_PAUSE
        told = False
        while True:
            try:
                attempt()
                return
            except GoneError as gone:
                reason = str(gone)
            if progress() > done:
                since, done, pause = time.monotonic(), progress(), FIRST_PAUSE
            waited = time.monotonic() - since
            if waited >= self._settings.patience or self._stop_requested():
                raise TrueupError(
                    "E876",
                    f"the server gave no answer for {waited:.0f} s: {reason}",
                    where=self._server.url,
                    remedy="start it again; the same command then goes on with the same prompts",
                )
            if not told:
                wait = self._settings.patience
                logger.warning("%s is away (%s): waiting up to %g s", self._server.url, reason, wait)
                told = True
            for _ in _slices(min(pause, self._settings.patience - waited)):
                if self._stop_requested():
                    break
            pause = min(2 * pause, LONGEST_PAUSE)

    # ------------------------------------------------------------------------------------- weights

    def _send(self, network: LanguageModel, session: Session) -> None:
        """Nothing; the server has the network's weights, under a name and in a folder that are new."""
        sent, adapter = self._sent, self._server.kind == "vllm"
        digest = digest_of(network) if adapter else ""
        if adapter and digest == sent.digest:
            return
        name = f"{self._prefix}{self._mark}-{sent.count:06d}"
        sent.count += 1
        folder = written(network, self._folder / name, self._server.kind)
        self._server.up(session)
        self._server.load(session, name, folder)
        old, sent.name, sent.digest = sent.name, name, digest
        if old:
            self._server.unload(session, old)
            disk.remove(self._folder / old)
        if adapter:
            trained = {n: p for n, p in network.module.named_parameters() if p.requires_grad}
            sent.before, sent.tensors = sent.tensors, {n: p.detach().clone() for n, p in trained.items()}

    def _others(self, network: LanguageModel) -> dict[str, LanguageModel]:
        """What a server that misses an update samples from: the base alone, the version before."""
        if not network.has_adapter:
            return {}
        found = {"the base model without the adapter": network.reference()}
        if self._sent.before:
            module = copy.deepcopy(network.module)
            module.load_state_dict(self._sent.before, strict=False)
            found["the version of the weights before"] = replace(network, module=module)
        return found


def _slices(seconds: float, size: float = 0.2) -> Iterator[None]:
    """Waits for so long, and hands back now and then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(size, left))
        yield
