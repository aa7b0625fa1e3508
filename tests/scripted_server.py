"""A stand-in for vLLM's and SGLang's servers on loopback: it loads the folders it is told of and samples.

Completions come from our own decoder in float32, so the gap to a trainer in float32 is rounding's. Faults are
planted by its fields.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trueup.models.forward import LanguageModel
from trueup.models.generate import Sampled, generate
from trueup.models.load import load
from trueup.models.shared import open_base


@dataclass(kw_only=True, eq=False)
class Scripted:
    """What the server does, and what it was asked."""

    base: Path
    kind: str = "vllm"
    heat: float = 1.0
    "It samples at this factor of the temperature it was asked for."
    raw: bool = False
    "Log-probs are of temperature 1, vLLM's default `raw_logprobs`."
    top_p: float | None = None
    "It samples from the nucleus, and its log-probs are renormalised."
    dtype: torch.dtype = torch.float32
    stale: bool = False
    "It takes adapters and goes on with the first."
    forgetful: int = 0
    "After so many completions it is as if started again: it knows no adapter; once."
    dies_after: int = 10**9
    "After so many completions it answers nothing but 503."
    short: bool = False
    "It ends every completion after one token."
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""
    completions: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.held = open_base(str(self.base), dtype="float32", device="cpu")
        self.adapters: dict[str, LanguageModel] = {}
        self.whole = load(str(self.base), dtype="float32", device="cpu")

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        self.log.append((path, asked))
        if self.completions >= self.dies_after:
            return 503, {"error": "gone"}
        if path == "/health":
            return 200, {}
        if path == "/v1/models":
            return 200, {"data": [{"id": "base"}, *({"id": name} for name in self.adapters)]}
        if path == "/v1/load_lora_adapter":
            name, folder = asked["lora_name"], Path(asked["lora_path"])
            if name in self.adapters:
                return 400, {"error": "already loaded"}
            first = next(iter(self.adapters.values()), None)
            made = self._cast(self.held.network(adapter=folder))
            self.adapters[name] = first if self.stale and first is not None else made
            return 200, {}
        if path == "/v1/unload_lora_adapter":
            gone = self.adapters.pop(asked["lora_name"], None)
            return (404, {"error": "unknown"}) if gone is None else (200, {})
        if path == "/update_weights_from_disk":
            self.whole = load(asked["model_path"], dtype="float32", device="cpu")
            return 200, {"success": True}
        if path == "/v1/completions":
            return self._completion(asked)
        return self._generated(asked) if path == "/generate" else (404, {})

    def _completion(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.forgetful and self.completions == self.forgetful:
            self.forgetful = 0
            self.adapters.clear()
        if asked["model"] not in self.adapters:
            return 404, {"error": "no such model"}
        drawn = self._drawn(
            self.adapters[asked["model"]], asked["prompt"], asked, asked["max_tokens"], "seed"
        )
        choice = {
            "token_ids": drawn.tokens.tolist(),
            "prompt_token_ids": asked["prompt"],
            "logprobs": {"token_logprobs": drawn.logprobs.tolist()},
            "finish_reason": "stop" if drawn.finished else "length",
        }
        return 200, {"choices": [choice]}

    def _generated(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        how = asked["sampling_params"]
        drawn = self._drawn(self.whole, asked["input_ids"], how, how["max_new_tokens"], "sampling_seed")
        said = [[p, t, None] for p, t in zip(drawn.logprobs.tolist(), drawn.tokens.tolist(), strict=True)]
        return 200, {"output_ids": drawn.tokens.tolist(), "meta_info": {"output_token_logprobs": said}}

    def _drawn(
        self, network: LanguageModel, prompt: list[int], how: dict[str, Any], most: int, seed: str
    ) -> Sampled:
        assert (how["top_p"], how["top_k"], how["min_p"], how["ignore_eos"]) == (1.0, -1, 0.0, True)
        greedy = how["temperature"] == 0
        heat = 1.0 if greedy else how["temperature"] * self.heat
        options: dict[str, Any] = {"stop_ids": how["stop_token_ids"], "max_new_tokens": most}
        ((drawn,),) = generate(
            network, [np.array(prompt)], temperature=heat, top_p=self.top_p, seed=how[seed], greedy=greedy,
            **options,
        )  # fmt: skip
        self.completions += 1
        if self.short:
            return Sampled(drawn.tokens[:1], drawn.logprobs[:1], drawn.finished)
        return self._said(drawn, network.with_temperature(1.0 if self.raw else heat), prompt)

    def _said(self, drawn: Sampled, network: LanguageModel, prompt: list[int]) -> Sampled:
        """With the log-probs that the server's mode gives."""
        if not self.raw and self.top_p is None:
            return drawn
        ids = torch.tensor([[*prompt, *drawn.tokens]])
        with torch.no_grad():
            hidden = network.body(input_ids=ids).last_hidden_state[0, len(prompt) - 1 : -1]
            p = torch.softmax(network.next_logits(hidden), -1)
        own = p.gather(1, torch.from_numpy(drawn.tokens.astype(np.int64))[:, None])[:, 0]
        if self.top_p is not None:
            ordered = p.sort(-1, descending=True).values
            kept = ordered.cumsum(-1) - ordered < self.top_p
            own = own / (ordered * kept).sum(-1)
        return replace_logprobs(drawn, own.log().numpy())

    def _cast(self, network: LanguageModel) -> LanguageModel:
        if self.dtype == torch.float32:
            return network
        return replace(network, module=copy.deepcopy(network.module).to(self.dtype))


def replace_logprobs(drawn: Sampled, logprobs: np.ndarray) -> Sampled:
    """The sample with other log-probs."""
    return Sampled(drawn.tokens, logprobs.astype(np.float32), drawn.finished)


@contextmanager
def serving(script: Scripted) -> Iterator[Scripted]:
    """Inside, the script answers at its `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _reply(self, asked: dict[str, Any]) -> None:
            with script.lock:
                status, said = script.answer(self.path, asked)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
