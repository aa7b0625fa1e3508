"""A teacher's distributions as columns: aligned, kept by files and checkpoints, refused where ids differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval_stubs import byte_tokenizer
from tiny_models import llama, ragged
from trueup.annotate.distributions import Distributions
from trueup.chat import Chat
from trueup.engine.groups import Completion, Group, Message, Role, from_json, to_json
from trueup.engine.method import Handles
from trueup.engine.packing import pack, spread
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.load import from_modules
from trueup.sources.context import in_front, open_context, under_context

SAID = Message(Role.USER, "hi")


def handles(teacher: LanguageModel, student: LanguageModel | None = None) -> Handles:
    networks = {"teacher": teacher, "policy": student or teacher}
    return Handles(networks=networks, microbatch_tokens=40)


def network(tokenizer: object = None, **changes: object) -> LanguageModel:
    return from_modules(llama(**changes), tokenizer)


def test_listed_columns_are_those_of_the_whole_distributions() -> None:
    """Microbatch by microbatch, every row: its likeliest ids, their log-probs, and the others' sum."""
    groups, teacher = ragged(3), network()
    with torch.no_grad():
        table = teacher(pack(groups), ("distributions",)).distributions
    assert table is not None
    batch = pack(Distributions(top_k=4)(groups, handles(teacher)))
    whole = pack(Distributions()(groups, handles(teacher)))
    assert torch.allclose(whole.columns["teacher_distributions"], table.double(), atol=1e-5)
    ids, said = batch.columns["listed_ids"].long(), batch.columns["teacher_listed"]
    assert said.shape == (*ids.shape[:1], 5) and ids.shape[1] == 4
    assert torch.allclose(said[:, :4], table.double().topk(4, -1).values, atol=1e-5)
    assert torch.allclose(said[:, 4].exp(), 1 - said[:, :4].exp().sum(1), atol=1e-5)
    again = teacher(batch.to("cpu", torch.float32), ("listed",)).listed
    assert again is not None and torch.allclose(again.double(), said, atol=1e-5)


def test_the_student_may_name_the_ids() -> None:
    """Its own likeliest at every token, with what the teacher gives them and all others together."""
    groups, teacher, student = ragged(3), network(), network()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in student.module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        own, theirs = (n(pack(groups), ("distributions",)).distributions for n in (student, teacher))
    batch = pack(Distributions(top_k=4, named_by="policy")(groups, handles(teacher, student)))
    ids, said = batch.columns["listed_ids"].long(), batch.columns["teacher_listed"]
    assert own is not None and theirs is not None
    assert torch.equal(ids, own.topk(4, -1).indices)
    assert not torch.equal(ids, theirs.topk(4, -1).indices)
    assert torch.allclose(said[:, :4], theirs.double().gather(1, ids), atol=1e-5)
    assert torch.allclose(said[:, 4].exp(), 1 - said[:, :4].exp().sum(1), atol=1e-5)


def test_rows_of_numbers_survive_files_and_packing() -> None:
    """JSON and back, one completion without a supervised token, to a device and another precision."""
    groups = ragged(2)
    silent = Completion(text="", tokens=np.array([5, 6], np.int32), supervised=np.zeros(2, bool))
    groups[1] = replace(groups[1], comparisons=(), completions=(groups[1].completions[0], silent))
    groups = Distributions(top_k=3)(groups, handles(network()))
    back = [from_json(json.loads(json.dumps(to_json(g)))) for g in groups]
    before, after = pack(groups), pack(back)
    for name in ("listed_ids", "teacher_listed"):
        assert torch.equal(before.columns[name], after.columns[name])
        assert before.columns[name].ndim == 2
    moved = after.to("cpu", torch.float32).columns["listed_ids"]
    assert moved.dtype == torch.float32 and torch.equal(moved.long(), before.columns["listed_ids"].long())
    spread_again = pack(spread(back, teacher_listed=after.columns["teacher_listed"]))
    assert torch.equal(spread_again.columns["teacher_listed"], before.columns["teacher_listed"])


def test_under_another_prompt_tokens_stay_aligned() -> None:
    """Token t of a completion is judged after the context, the prompt and the t − 1 tokens before it."""
    teacher = network()
    groups = ragged(2)
    context = np.array([9, 8, 7], np.int32)

    def under(group: Group) -> Group:
        assert group.prompt_tokens is not None
        return replace(group, prompt_tokens=np.concatenate([context, group.prompt_tokens]))

    found = Distributions(under=under)(groups, handles(teacher))
    assert all(np.array_equal(f.prompt_tokens, g.prompt_tokens) for f, g in zip(found, groups, strict=True))  # pyright: ignore
    for group in found:
        assert group.prompt_tokens is not None
        for c in group.completions:
            assert c.tokens is not None
            ids = torch.tensor(np.concatenate([context, group.prompt_tokens, c.tokens]))[None].long()
            with torch.no_grad():
                logits = teacher.hf_model(ids).logits[0, -len(c.tokens) - 1 : -1]
            expected = torch.log_softmax(logits, -1).double().numpy()
            assert np.allclose(c.columns["teacher_distributions"], expected, atol=1e-5)


def test_an_empty_context_changes_nothing() -> None:
    under = under_context((), lambda _: np.zeros(1, np.int32))
    groups = ragged(2)
    plain, same = (Distributions(under=u)(groups, handles(network())) for u in (None, under))
    a, b = (pack(g).columns["teacher_distributions"] for g in (plain, same))
    assert torch.equal(a, b)


def test_where_a_context_stands() -> None:
    """After the system's words, before the conversation; written out before plain text."""
    context = open_context("lab:hhh", 2)
    system, text = Message(Role.SYSTEM, "be kind"), Message(Role.TEXT, "once upon")
    assert context[-1].role == Role.ASSISTANT and len(context) == 4
    assert in_front(context, (system, SAID)) == (system, *context, SAID)
    (written,) = in_front((SAID, Message(Role.ASSISTANT, "hello")), (text,))
    assert written == Message(Role.TEXT, "User: hi\n\nAssistant: hello\n\nonce upon")
    chat = Chat.of(byte_tokenizer())
    group = chat.encode(Group(prompt=(SAID,), completions=(Completion(text="yes"),)))
    seen = under_context(context, chat.prompt_ids)(group)
    assert group.prompt_tokens is not None and seen.prompt_tokens is not None
    assert seen.prompt == group.prompt and seen.completions == group.completions
    tail = group.prompt_tokens[1:]  # all but the token that begins a text
    assert np.array_equal(seen.prompt_tokens[-len(tail) :], tail)


def test_a_context_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl"
    rows = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = open_context(str(path), 2)
    assert [m.content for m in found] == ["question 0", "answer 0", "question 1", "answer 1"]
    assert [m.role for m in found] == [Role.USER, Role.ASSISTANT] * 2


def test_fourteen_dialogues_about_the_real_world_come_with_the_package() -> None:
    found = open_context("hhh", 14)
    assert [m.role for m in found] == [Role.USER, Role.ASSISTANT] * 14
    assert len({m.content for m in found}) == 28 and open_context("hhh", 2) == found[:4]


def test_other_ids_are_refused() -> None:
    """Other tokenizers, other numbers of ids, or a listed id that the student has not: E558."""
    groups, plain = ragged(1), network()
    other = byte_tokenizer()
    smaller = network(vocab_size=40)
    assert Distributions(top_k=2)(groups, handles(network(other), network(other)))
    changed = byte_tokenizer().__class__(tokenizer_object=other.backend_tokenizer, bos_token="<|bos|>")
    changed.add_tokens(["more"])
    for annotator, teacher, student, words in (
        (Distributions(top_k=2), network(other), network(changed), "other tokenizers"),
        (Distributions(), plain, smaller, "61 token ids and 40"),
        (Distributions(top_k=60), plain, smaller, "a token id"),
    ):
        with pytest.raises(TrueupError, match=f"E558.*{words}"):
            annotator(groups, handles(teacher, student))


def test_what_does_not_fit_the_teacher_is_refused() -> None:
    group = Group(
        id="long",
        prompt=(),
        prompt_tokens=np.zeros(120, np.int32),
        completions=(Completion(text="", tokens=np.zeros(9, np.int32)),),
    )
    with pytest.raises(TrueupError, match=r"E560 group long.*129 tokens.*128"):
        Distributions(top_k=2)([group], handles(network()))
