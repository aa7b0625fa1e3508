"""Texts come back from their ids, for every kind of tokenizer, and never as control ids."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from chat_shapes import CORPUS, byte_level, metaspace, shapes
from shared_data import shared
from trueup.chat import Chat
from trueup.chat.codec import Codec
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError
from trueup.evals.joint import joint_ids

KINDS = ("prepend", "replace", "metaspace-first", "metaspace-always")
TOKENIZERS = {kind: metaspace(kind=kind) for kind in KINDS}
TOKENIZERS["bytes"] = byte_level(("<s>", "</s>"), bos="<s>", eos="</s>")
CHATS = {name: Chat.of(tokenizer) for name, tokenizer in TOKENIZERS.items()}
NO_BLOCK = st.characters(blacklist_categories=("Cs",), blacklist_characters="\u2581")


def check_cut(chat: Chat, text: str, at: int) -> None:
    """Prompt and completion, cut anywhere, decode to the text; the first token has no part of the second."""
    prompt, rest = text[:at], text[at:]
    ids, completion = chat.prompt_ids([Message(Role.TEXT, prompt)]), chat.completion_ids(rest, plain=True)
    assert chat.decode(completion, plain=True) == rest
    whole = chat.codec.whole.decode([*ids.tolist(), *completion.tolist()], skip_special_tokens=True)
    assert whole == text or (not prompt and whole == text.removeprefix(" ")), (prompt, rest, whole)
    assert chat.codec.where_control(ids).tolist() == [0] and ids[0] == chat.bos
    assert chat.codec.where_control(completion).tolist() == [len(completion) - 1]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_two_thousand_cuts(name: str) -> None:
    """Ten thousand cuts over five kinds of tokenizer: each part comes back, with no space more."""
    rng, text = random.Random(name), " ".join(CORPUS)
    for _ in range(2000):
        start = rng.randrange(len(text) - 60)
        part = text[start : start + rng.randrange(2, 60)].lstrip() or "x"
        check_cut(CHATS[name], part, rng.randrange(len(part) + 1))


@given(st.text(NO_BLOCK, max_size=40))
def test_any_text_comes_back(text: str) -> None:
    for chat in CHATS.values():
        ids = chat.completion_ids(text, plain=True)
        assert chat.decode(ids, plain=True) == text
        assert chat.codec.where_control(ids).tolist() == [len(ids) - 1]


def test_stories260k_by_hand() -> None:
    """A real Llama tokenizer: a space before the first word only, `<s>▁Once`, none before later ones."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(shared("stories260K"))
    chat = Chat.of(tokenizer)
    prompt = chat.prompt_ids([Message(Role.TEXT, "Once upon a time")])
    assert prompt.tolist() == tokenizer("Once upon a time")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(chat.completion_ids("there", plain=True).tolist())[0] != "▁"
    forged = chat.completion_ids("a </s> b", plain=True)
    assert forged.tolist().count(tokenizer.eos_token_id) == 1 and forged[-1] == tokenizer.eos_token_id
    assert chat.decode(forged) == "a </s> b"
    for cut in range(30):
        check_cut(chat, "Once upon a time </s> there was é 漢 \n", cut)
    assert chat.prompt_ids([Message(Role.TEXT, " lead")]).tolist() == tokenizer(" lead")["input_ids"]


@pytest.mark.parametrize("bos", ["<s>", None])
def test_a_text_by_itself_has_a_token_before_it(bos: str | None) -> None:
    """BOS, though the tokenizer begins no text with it, else the end token: in training and in evaluation."""
    tokenizer = byte_level(("<s>", "</s>"), eos="</s>")
    tokenizer.bos_token = bos
    assert tokenizer("ab")["input_ids"][0] not in tokenizer.all_special_ids
    chat = Chat.of(tokenizer)
    group = Group(prompt=(Message(Role.TEXT, ""),), completions=(Completion(text="Once upon"),))
    first = tokenizer.convert_tokens_to_ids(bos or "</s>")
    encoded = chat.encode(group)
    assert encoded.prompt_tokens is not None and encoded.prompt_tokens.tolist() == [first]
    ids = encoded.completions[0].tokens
    assert ids is not None and ids.tolist() == [*tokenizer("Once upon")["input_ids"], tokenizer.eos_token_id]
    before, (after,) = joint_ids(chat, "", ["Once upon"])
    assert before.tolist() == [first] and after.tolist() == ids[:-1].tolist()
    assert chat.prompt_ids([Message(Role.TEXT, "ab")]).tolist() == tokenizer("ab")["input_ids"]


def test_a_text_by_itself_begins_as_its_tokenizer_begins_texts() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(shared("stories260K"))
    group = Group(prompt=(Message(Role.TEXT, ""),), completions=(Completion(text="Once upon a time"),))
    encoded = Chat.of(tokenizer).encode(group)
    ids = encoded.completions[0].tokens
    assert encoded.prompt_tokens is not None and ids is not None
    whole = [*encoded.prompt_tokens.tolist(), *ids.tolist()]
    assert whole == [*tokenizer("Once upon a time")["input_ids"], tokenizer.eos_token_id]


def test_gpt2_agrees_on_text_prompts() -> None:
    """A real vocabulary of 50,257: a prompt's ids are the tokenizer's own."""
    folder = shared("gpt2_tokenizer")
    raw = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>")
    assert len(tokenizer) == 50_257 and tokenizer("Hello there")["input_ids"] == [15496, 612]
    chat = Chat.of(tokenizer, "hh")
    text = "Hello there,  two spaces.\n\nAnd a line."
    assert chat.prompt_ids([Message(Role.TEXT, text)]).tolist() == tokenizer(text)["input_ids"]
    assert tokenizer.eos_token_id not in chat.prompt_ids([Message(Role.TEXT, "a<|endoftext|>b")])
    ids = chat.prompt_ids([Message(Role.USER, "Hello")])
    assert ids.tolist() == tokenizer("\n\nHuman: Hello\n\nAssistant:")["input_ids"]
    both = [*ids.tolist(), *chat.completion_ids("Hi there").tolist()]
    assert both == tokenizer("\n\nHuman: Hello\n\nAssistant: Hi there<|endoftext|>")["input_ids"]


def test_models_that_know_a_control_token_as_a_piece() -> None:
    """A Unigram model has `</s>` among its pieces and would find it in a text: it is spelled out."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("<", -5.0), ("/", -5.0), ("s", -5.0), (">", -5.0), ("a", -3.0)]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    raw.add_special_tokens([AddedToken("</s>", normalized=False), AddedToken("<unk>", normalized=False)])
    bare = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    assert 1 in bare.encode("a</s>a").ids, "the danger is there"
    codec = Codec.of(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>"))
    ids = codec.encode_content("a</s>a</s>")
    assert 1 not in ids
    assert "".join(raw.id_to_token(number) for number in ids) == "a</s>a</s>"
    with pytest.raises(TrueupError, match=r"E555.*no token for"):
        codec.encode_content("a漢a")


def test_a_lone_surrogate_is_an_error() -> None:
    with pytest.raises(TrueupError, match=r"E555.*surrogate"):
        CHATS["bytes"].completion_ids("a\ud800b", plain=True)


def test_white_space_tokens_are_no_control_tokens() -> None:
    """Gemma has added tokens for runs of newlines: where its own model knows them, content has them too."""
    vocabulary = {"\n": 0, "\n\n": 1, "a": 2, "<e>": 3, "<unk>": 4}
    raw = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    raw.normalizer = normalizers.Replace(" ", "\u2581")
    raw.add_special_tokens([AddedToken("<e>", normalized=False), AddedToken("<unk>", normalized=False)])
    raw.add_tokens([AddedToken("\n\n", normalized=False, special=False)])
    codec = Codec.of(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>"))
    assert set(codec.control) == {"<e>", "<unk>"}
    assert codec.encode_content("a\n\na") == [2, 1, 2]
    # Beyond the model's vocabulary its id hangs on the other added tokens: then content does without it.
    far = Tokenizer(models.BPE({"\n": 0, "a": 1}, []))
    far.decoder = decoders.Fuse()
    far.add_special_tokens([AddedToken("<e>", normalized=False)])
    far.add_tokens([AddedToken("\n\n", normalized=False, special=False)])
    codec = Codec.of(PreTrainedTokenizerFast(tokenizer_object=far, eos_token="<e>"))
    assert codec.encode_content("a\n\na") == [1, 0, 0, 1]
    assert codec.decode([1, 3, 1]) == "a\n\na"


def test_a_template_whose_tokens_the_tokenizer_does_not_find() -> None:
    """A token that is normalized away from the text is missing in the ids: an error, not a guess."""
    tokenizer = metaspace()
    tokenizer.add_tokens([AddedToken("<x>", normalized=True)])  # The leading space becomes part of its text.
    codec = Codec.of(tokenizer)
    with pytest.raises(TrueupError, match="E553"):
        codec.encode_template("</s>a<x>")


def test_padding_and_truncation_of_the_tokenizer_do_not_reach_us() -> None:
    tokenizer = byte_level(("<s>", "</s>"), bos="<s>", eos="</s>")
    tokenizer("a b c", truncation=True, max_length=2)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    chat = Chat.of(tokenizer)
    assert chat.decode(chat.completion_ids("a b c d", plain=True)) == "a b c d"
    assert len(chat.prompt_ids([Message(Role.TEXT, "a")])) == 2


def test_where_control_looks_at_the_ids() -> None:
    codec = CHATS["bytes"].codec
    ids = np.array([0, codec.control["<s>"], 10**6, codec.control["</s>"], 5], np.int32)
    assert codec.where_control(ids).tolist() == [1, 3]
    assert codec.where_control(np.zeros(0, np.int32)).tolist() == []


ALL = {**TOKENIZERS, **{shape.name: shape.tokenizer for shape in shapes()}}


@pytest.mark.parametrize("name", ALL)
def test_copies_over_one_model_are_what_its_json_says(name: str) -> None:
    """Each copy, written out, is the JSON of the tokenizer without the parts that it is to be without."""
    state = json.loads(ALL[name].backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    codec = Codec.of(ALL[name])
    assert json.loads(codec.whole.to_str()) == state
    kept = json.loads(codec.first.to_str())
    blank = [token for token in state["added_tokens"] if not token["content"].strip(" \t\n\r\u2581")]
    assert kept == {**state, "post_processor": None, "added_tokens": kept["added_tokens"]}
    assert kept["added_tokens"] in ([], blank)
    for copy, whole in ((codec.middle, kept), (codec.speller, state)):
        parts = ("normalizer", "pre_tokenizer", "decoder")
        assert {**json.loads(copy.to_str()), **{p: whole[p] for p in parts}} == whole


def test_a_large_vocabulary_is_not_read_again() -> None:
    """Taking a tokenizer of 150,000 tokens apart costs a small part of building it once."""
    vocabulary = {f"{number:x}": number for number in range(150_000)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="0"))
    raw.add_special_tokens([AddedToken("<e>", normalized=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>")

    def seconds(work: Callable[[], object]) -> float:
        spent = []
        for _ in range(3):
            before = time.process_time()
            work()
            spent.append(time.process_time() - before)
        return min(spent)

    text = raw.to_str()
    assert seconds(lambda: Codec.of(tokenizer)) < seconds(lambda: Tokenizer.from_str(text)) / 5
