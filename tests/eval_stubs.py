"""Networks with known numbers, a tokenizer of bytes, and a tiny random model, for tests of evaluations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trueup.chat.encoder import Chat
from trueup.engine.batch import Batch, Outputs
from trueup.evals.view import PolicyView
from trueup.models.forward import LanguageModel
from trueup.models.load import from_modules

CONTROL = ("<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@functools.cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, after five control tokens."""
    vocabulary = {text: i for i, text in enumerate([*CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|end|>", chat_template=TEMPLATE
    )


@functools.cache
def byte_chat() -> Chat:
    """The byte tokenizer with its chat template."""
    return Chat.of(byte_tokenizer())


VOCABULARY = len(CONTROL) + 256


@dataclass(frozen=True, eq=False)
class TableNetwork:
    """A network whose next-token logits depend on the last token alone: row `table[token]`, [V, V].

    Its reward is the number of tokens of the completion.
    """

    table: Tensor

    @property
    def module(self) -> nn.Module:
        """No parameters."""
        return nn.Module()

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """Log-probabilities, distributions and rewards by the table."""
        found = torch.log_softmax(self.table[batch.tokens[batch.at]], -1)
        logprobs = found.gather(1, batch.targets[:, None]).squeeze(1)
        return Outputs(
            logprobs=logprobs if "logprobs" in want else None,
            distributions=found if "distributions" in want else None,
            rewards=batch.per_completion(torch.ones_like(batch.targets, dtype=torch.float32))
            if "rewards" in want
            else None,
        )


def uniform() -> TableNetwork:
    """Every token equally likely, in float64."""
    return TableNetwork(torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64))


def random_table(seed: int = 0) -> TableNetwork:
    """Random logits in float64."""
    generator = torch.Generator().manual_seed(seed)
    return TableNetwork(torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64))


def tiny_model(seed: int = 0) -> LanguageModel:
    """A random Llama of two layers on the byte tokenizer, with a reward head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    return from_modules(LlamaForCausalLM(config), byte_tokenizer(), heads=("logprobs", "rewards"))


def view_of(network: object, **parts: object) -> PolicyView:
    """The network as a policy named `policy`, unless `parts` says otherwise."""
    return PolicyView(**{"name": "policy", "network": network, "chat": byte_chat(), **parts})  # pyright: ignore
