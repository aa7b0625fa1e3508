"""A saved folder says how its model is spoken to, so that plain transformers stops where trueup stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import small_world
import trueup
from chain_model import QUESTION, chain, generated
from chat_shapes import CHATML, QWEN3, byte_level
from trueup.answerers.open import open_local
from trueup.chat import Chat
from trueup.chat.templates import NAMED
from trueup.cli import main
from trueup.engine.groups import Message, Role
from trueup.models import from_modules, load, save
from trueup.models.opening import open_chat
from trueup.settings.blocks import LoraSettings, ModelSettings
from trueup.sources.sample import Decoding

ASK = (Message(Role.USER, QUESTION),)
END, BOS = "<|endoftext|>", "<|begin|>"


def tokenizer_for(*tokens: str, template: str | None = None, bos: str | None = None) -> Any:
    """A base's: it knows the tokens that a template needs, its end token ends texts."""
    begins = () if bos is None else (bos,)
    return byte_level((*begins, END, *tokens), bos=bos, eos=END, template=template)


def base_saying(folder: Path, tokenizer: Any, template: str | None, said: str = "ab") -> Chat:
    """The chat of a base in a folder, without a template of its own, that says a text, stops, and goes on."""
    chat = Chat.of(tokenizer, template)
    begins = chat.prompt_ids(ASK if chat.layout else (Message(Role.TEXT, QUESTION),))
    letters = [tokenizer.convert_tokens_to_ids(c) for c in said]
    after = tokenizer.convert_tokens_to_ids("c")
    chain(tokenizer, [int(begins[-1]), *letters, chat.stop_ids[0], after]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return chat


def read(folder: Path, name: str = "generation_config.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("begins", [False, True], ids=["no bos", "bos"])
@pytest.mark.parametrize("name", [*NAMED, "plain"])
def test_transformers_stops_where_trueup_stops(name: str, begins: bool, tmp_path: Path) -> None:
    """A base is trained with a template by name and exported: the folder alone tells plain transformers."""
    needed = NAMED[name].needs if name in NAMED else ()
    # A template of another model's may lie there: the one that is named is the one that is kept.
    other = CHATML if name == "plain" else None
    also = ("<|im_start|>", "<|im_end|>") if name == "plain" else ()
    tokenizer = tokenizer_for(*needed, *also, template=other, bos=BOS if begins else None)
    chat = base_saying(tmp_path / "base", tokenizer, name)
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "ab"}]
    rows: list[dict[str, Any]] = [{"messages": turns}] * 4
    if name == "plain":
        rows = [{"prompt": [{"role": "text", "content": "what is 1?"}], "completions": [{"text": "ab"}]}] * 4
    data = small_world.write(tmp_path / "rows.jsonl", rows)
    trained = main([
        "train", "sft", "--model.path", str(tmp_path / "base"), "--model.template", name, "--data.path",
        str(data), "--data.held_out", "0", "--loop.steps", "1", "--update.lr", "1e-12", "--out",
        str(tmp_path / "run"),
    ])  # fmt: skip
    assert trained == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    for folder in (tmp_path / "run" / "model", tmp_path / "out"):
        said = generated(folder, chats=name != "plain")
        assert tokenizer.decode(said[:2]) == "ab"
        assert said[2:] == [chat.stop_ids[0]], "it stops at the stop token, and nowhere later"
        assert read(folder)["eos_token_id"] == list(chat.stop_ids)
        speaker = open_local(str(folder), "cpu")
        role = Role.TEXT if name == "plain" else Role.USER
        asked = [(Message(role, QUESTION),)]
        answer = speaker.complete(asked, decoding=Decoding(greedy=True, max_new_tokens=12), seed=0)[0][0]
        assert (answer.text, answer.finish) == ("ab", "stop")


@pytest.mark.parametrize("name", [*NAMED, "plain"])
def test_a_folder_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    """The same ids, stops and ends with nothing said, through folder after folder."""
    needed = NAMED[name].needs if name in NAMED else ()
    first = base_saying(tmp_path / "0", tokenizer_for(*needed, bos=BOS), name)
    network = load(tmp_path / "0", tokenizer=first.tokenizer)
    for number in (1, 2, 3):
        folder = save(network, tmp_path / str(number))
        network = load(folder)
        again = Chat.of(network.tokenizer)
        assert again.stop_ids == first.stop_ids
        assert again.text_stop == first.text_stop == network.tokenizer.convert_tokens_to_ids(END)
        assert network.tokenizer.eos_token_id == first.stop_ids[0], "the end of a turn"
        assert (again.layout is None) == (name == "plain")
        if name != "plain":
            talk = (*ASK, Message(Role.ASSISTANT, "ab"), *ASK)
            assert again.prompt_ids(talk).tolist() == first.prompt_ids(talk).tolist()
            assert again.agreement([ASK]).num_equal == Chat.of(first.tokenizer).agreement([ASK]).num_equal
    files = [{f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("2", "3")]
    assert files[0] == files[1], "the same model gives the same bytes"


def test_jinja_source_travels_and_one_that_writes_the_end_token_keeps_it(tmp_path: Path) -> None:
    source = CHATML + "{{ '' if messages else eos_token }}"
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>")
    first = base_saying(tmp_path / "base", tokenizer, source)
    folder = save(load(tmp_path / "base", tokenizer=first.tokenizer), tmp_path / "saved")
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == source
    assert AutoTokenizer.from_pretrained(folder).eos_token == END
    assert Chat.of(AutoTokenizer.from_pretrained(folder)).stop_ids == first.stop_ids
    assert generated(folder)[-1] == first.stop_ids[0]


def test_plain_takes_a_template_away(tmp_path: Path) -> None:
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>", template=CHATML)
    chat = Chat.of(tokenizer, "plain")
    folder = save(from_modules(chain(tokenizer, [0, 1]), chat.tokenizer), tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(folder).chat_template is None
    assert read(folder)["eos_token_id"] == [tokenizer.eos_token_id]
    assert tokenizer.chat_template == CHATML, "the tokenizer that was given is as it was"


@pytest.mark.parametrize("thinking", [False, True])
def test_whether_to_think_travels(thinking: bool, tmp_path: Path) -> None:
    """A template with thoughts asks transformers for the prompts that training used; callers may differ."""
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>", "<think>", "</think>", template=QWEN3)
    chat = Chat.of(tokenizer, thinking=thinking)
    folder = save(from_modules(chain(tokenizer, [0, 1]), chat.tokenizer), tmp_path / "saved")
    for again in (AutoTokenizer.from_pretrained(folder), load(save(load(folder), tmp_path / "2")).tokenizer):
        asked = {"conversation": [{"role": "user", "content": QUESTION}], "add_generation_prompt": True}
        ids = again.apply_chat_template(**asked, return_dict=False)
        assert ids == chat.prompt_ids(ASK).tolist() == Chat.of(again).prompt_ids(ASK).tolist()
        other = again.apply_chat_template(**asked, return_dict=False, enable_thinking=not thinking)
        assert other == Chat.of(tokenizer, thinking=not thinking).prompt_ids(ASK).tolist() != ids


def test_several_templates_stay_beside_the_default(tmp_path: Path) -> None:
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>", "<think>", "</think>")
    tokenizer.chat_template = {"default": QWEN3, "tool_use": CHATML}
    folder = save(from_modules(chain(tokenizer, [0, 1]), Chat.of(tokenizer).tokenizer), tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(folder).chat_template
    assert again["tool_use"] == CHATML and again["default"].endswith(QWEN3)
    assert Chat.of(tokenizer, "chatml").tokenizer.chat_template == NAMED["chatml"].source


def test_adapters_and_scorers_say_it_too(tmp_path: Path) -> None:
    """What is no whole model has its chat beside it: generation_config.json, template, end token."""
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>")
    first = base_saying(tmp_path / "base", tokenizer, "chatml")
    given: dict[str, Any] = {"tokenizer": first.tokenizer}
    for name, options in {
        "adapter": {"lora": LoraSettings(rank=2)},
        "scorer": {"heads": ("rewards",)},
    }.items():
        folder = save(load(tmp_path / "base", **given, **options), tmp_path / name)
        assert read(folder)["eos_token_id"] == list(first.stop_ids)
        again = open_chat(ModelSettings(path=str(folder)))
        assert again.prompt_ids(ASK).tolist() == first.prompt_ids(ASK).tolist()
        assert again.tokenizer.eos_token == "<|im_end|>"


def test_what_a_base_says_of_generation_is_kept(tmp_path: Path) -> None:
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>")
    model = chain(tokenizer, [0, 1])
    model.generation_config.temperature, model.generation_config.top_p = 0.6, 0.9
    chat = Chat.of(tokenizer, "chatml")
    said = read(save(from_modules(model, chat.tokenizer), tmp_path / "saved"))
    assert (said["temperature"], said["top_p"]) == (0.6, 0.9)
    assert said["pad_token_id"] == tokenizer.eos_token_id, "no pad token anywhere: what ends texts"
    assert said["pad_token_id"] != said["eos_token_id"][0]
    assert read(tmp_path / "saved", "config.json")["eos_token_id"] == said["eos_token_id"]
    for said, padded in ((7, 7), (chat.stop_ids[0], tokenizer.eos_token_id)):
        model.generation_config.pad_token_id = said
        folder = save(from_modules(model, chat.tokenizer), tmp_path / f"padded-{said}")
        assert read(folder)["pad_token_id"] == padded, "never the end of a turn, where there is another"


def test_the_python_door_saves_a_template_that_was_named(tmp_path: Path) -> None:
    tokenizer = tokenizer_for("<|im_start|>", "<|im_end|>")
    first = base_saying(tmp_path / "base", tokenizer, "chatml")
    trueup.load(str(tmp_path / "base"), template="chatml").save(tmp_path / "named")
    assert generated(tmp_path / "named")[2:] == [first.stop_ids[0]]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    trueup.load(model, AutoTokenizer.from_pretrained(tmp_path / "base"), template="chatml").save(
        tmp_path / "object"
    )
    assert generated(tmp_path / "object")[2:] == [first.stop_ids[0]]
    with pytest.raises(trueup.TrueupError, match=r"E350.*`template=NAME`"):
        trueup.load(str(tmp_path / "base")).generate("what is 1?")
