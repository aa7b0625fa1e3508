"""Tokenizer: a byte-level BPE over the lab's corpus, with control tokens that no text can spell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from trueup.engine import disk
from trueup.lab.documents import Document, corpus

VOCABULARY = 1024
CONTROL = {
    "bos": "<|bos|>",
    "end": "<|end|>",
    "pad": "<|pad|>",
    "system": "<|system|>",
    "user": "<|user|>",
    "assistant": "<|assistant|>",
    "tool": "<|tool|>",
}
"""Control tokens; their ids are 0, 1, 2 ... in this order. `bos` starts every document and prompt, `end`
closes every turn and every document."""
CONTEXT = 512
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
NUM_DOCUMENTS = 6000
"How many documents of the corpus the merges are learned from."


class Encoder(Protocol):
    """What is asked of a tokenizer here: any Hugging Face tokenizer of the lab has it."""

    def encode(self, text: str, **options: Any) -> list[int]: ...

    def convert_tokens_to_ids(self, tokens: str) -> int: ...


def build_tokenizer(path: str | Path, seed: int = 0) -> Path:
    """The folder into which the lab's tokenizer was written, as Hugging Face loads it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = [AddedToken(token, special=True, normalized=False) for token in CONTROL.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=control,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer=trainer)
    # Plain texts begin as documents do.
    bos = CONTROL["bos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": CONTROL["bos"],
        "eos_token": CONTROL["end"],
        "pad_token": CONTROL["pad"],
        "additional_special_tokens": [CONTROL[name] for name in ("system", "user", "assistant", "tool")],
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    with disk.whole_folder(Path(path)) as staged:
        tokenizer.save(str(staged / "tokenizer.json"))
        disk.write(staged / "tokenizer_config.json", text)
    return Path(path)


def encode_document(tokenizer: Encoder, document: Document) -> list[int]:
    """The document's token ids: `bos`, then its text and `end`, or its turns, each closed by `end`.

    Content is encoded apart from the control tokens, so no text can forge a role.
    """
    ids = [tokenizer.convert_tokens_to_ids(CONTROL["bos"])]
    end = tokenizer.convert_tokens_to_ids(CONTROL["end"])
    if not document.messages:
        return [*ids, *_content(tokenizer, document.text), end]
    for message in document.messages:
        ids.append(tokenizer.convert_tokens_to_ids(CONTROL[str(message.role)]))
        ids.extend(_content(tokenizer, message.content))
        ids.append(end)
    return ids


def _content(tokenizer: Encoder, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def _texts(seed: int) -> list[str]:
    found = []
    for document in corpus(seed=seed, num_documents=NUM_DOCUMENTS):
        found.extend(m.content for m in document.messages)
        if document.text:
            found.append(document.text)
    return found
