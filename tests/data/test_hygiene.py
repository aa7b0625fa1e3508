"""Hygiene: the rules of InstructGPT, personal data and overlap, each with its conservation law."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import phonenumbers
import pytest

from trueup.data import personal
from trueup.data.hygiene import (
    Kept,
    cap_per_user,
    dedupe_by_prefix,
    drop_personal,
    prompt_text,
    split_by_user,
)
from trueup.data.personal import find_personal, redact
from trueup.data.phones import REGIONS
from trueup.data.similar import drop_near_duplicates, drop_overlap, near_duplicates, overlap
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError


def group(prompt: str, *, user: str = "", answer: str = "", id: str = "") -> Group:
    completions = (Completion(text=answer),) if answer else ()
    return Group(prompt=(Message(Role.USER, prompt),), completions=completions, user=user, id=id)


def names(kept: Kept) -> list[str]:
    return [item.id for item in kept.groups]


def many(num: int, seed: int = 0) -> list[Group]:
    rng = random.Random(seed)
    heads = ["write a poem about ", "explain the theory of ", "hi", ""]
    prompts = [
        rng.choice(heads) + rng.choice(["cats", "dogs", "cats and dogs", "x" * 30]) for _ in range(num)
    ]
    return [group(p, user=f"u{rng.randrange(9)}", id=str(i)) for i, p in enumerate(prompts)]


def test_no_two_kept_prompts_share_a_long_prefix() -> None:
    groups = many(300)
    kept = dedupe_by_prefix(groups, num_chars=26)
    texts = [prompt_text(item) for item in kept.groups]
    for a, b in combinations(texts, 2):
        assert a != b
        assert a[:26] != b[:26] or min(len(a), len(b)) < 26
    assert kept.num_in == 300 == len(kept.groups) + kept.dropped["shared prefix"]
    again = dedupe_by_prefix(kept.groups, num_chars=26)
    assert names(again) == names(kept) and not again.dropped


def test_prefix_dedupe_and_cap_do_not_depend_on_the_order() -> None:
    groups = many(200)
    for rule in (lambda g: dedupe_by_prefix(g, num_chars=26), lambda g: cap_per_user(g, most=5, seed=3)):
        wanted = set(names(rule(groups)))
        for seed in range(5):
            mixed = random.Random(seed).sample(groups, len(groups))
            assert set(names(rule(mixed))) == wanted


def test_the_cap_holds_for_users_and_spares_the_unnamed() -> None:
    groups = many(200) + [group(f"p{i}", id=f"n{i}") for i in range(20)]
    kept = cap_per_user(groups, most=7)
    counts = Counter(item.user for item in kept.groups)
    assert counts.pop("") == 20 and max(counts.values()) == 7
    assert kept.num_in == 220 == len(kept.groups) + kept.dropped["over the cap of its user"]
    assert names(cap_per_user(kept.groups, most=7)) == names(kept)
    assert names(cap_per_user(groups, most=7, seed=1)) != names(kept)
    with pytest.raises(TrueupError, match="E701"):
        cap_per_user(groups, most=0)


def test_no_user_is_in_two_splits_and_fractions_are_met() -> None:
    groups = [group(f"p{i % 700}", user=f"u{i % 500}" if i % 3 else "", id=str(i)) for i in range(3000)]
    splits = split_by_user(groups, {"train": 0.8, "validation": 0.1, "test": 0.1, "none": 0.0})
    assert sum(map(len, splits.values())) == 3000 and not splits["none"]
    assert 0.75 < len(splits["train"]) / 3000 < 0.85
    for a, b in combinations(splits.values(), 2):
        assert not {g.user for g in a if g.user} & {g.user for g in b if g.user}
        assert not {prompt_text(g) for g in a if not g.user} & {prompt_text(g) for g in b if not g.user}
    fewer = split_by_user(groups[:1000], {"train": 0.8, "validation": 0.1, "test": 0.1})
    assert {g.id for g in fewer["test"]} <= {g.id for g in splits["test"]}
    for fractions in ({}, {"train": 0.5}, {"train": 1.5, "test": -0.5}):
        with pytest.raises(TrueupError, match="E701"):
            split_by_user(groups, fractions)


PERSONAL = [
    ("mail bob.x+y@mail.example.org.", ["email:bob.x+y@mail.example.org"]),
    ("call +1 (555) 123-4567 now", ["phone:+1 (555) 123-4567"]),
    ("(030) 1234567 or +14155552671", ["phone:(030) 1234567", "phone:+14155552671"]),
    ("555-123-4567, 555 123 4567, 01 23 45 67 89", ["phone"] * 3),
    ("card 4111 1111 1111 1111 or 5500-0000-0000-0004", ["card"] * 2),
    ("pay DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432", ["iban"] * 2),
    ("my 2223 0031 2200 3222 expires", ["card:2223 0031 2200 3222"]),  # Mastercard's 2-series
    ("iban de89 3704 0044 0532 0130 00 and gb82west12345698765432 bank", ["iban:de89", "iban:gb82west"]),
    ("FR76 3000 6000 0112 3456 7890 189 is mine", ["iban:FR76 3000 6000 0112 3456 7890 189"]),
    ("jörg@müller.de, 用户@例子.公司, почта@пример.рф, राम@उदाहरण.भारत, a@xn--bcher-kva.de", ["email"] * 5),
    ("+33 1 23 45 67 89 or 020 7946 0958", ["phone:+33 1 23 45 67 89", "phone:020 7946 0958"]),
    ("call +49 170 1234567 now, 0049 170 1234567", ["phone:+49 170 1234567", "phone:0049 170 1234567"]),
    ("(415) 555-2671, 415.555.2671, 1-800-555-0199", ["phone"] * 3),
    ("030/1234567, 03-1234-5678, 0412 345 678, (11) 91234-5678", ["phone"] * 4),
    ("8 (912) 345-67-89, 138 0013 8000, 98765 43210, 07911123456", ["phone"] * 4),
    ("call 555-0123 today", ["phone:555-0123"]),
    ("mi móvil: 612 345 678", ["phone:612 345 678"]),
    ("电话 6521 8000；Тел. 912 345-67-89", ["phone"] * 2),
    ("020 7946 0958 01 23 45 67 89", ["phone:020 7946 0958", "phone:01 23 45 67 89"]),
    ("host 192.168.1.10, fe80::1ff:fe23:4567:890a", ["ip"] * 2),
]
IMPERSONAL = [
    "4111 1111 1111 1112",  # Luhn fails
    "DE88 3704 0044 0532 0130 00",  # remainder is not 1
    "on 2024-01-02 at 12:30:45, 31.12.1999",
    "pi is 3.14159265358979, not 0.123 0.456 0.789",
    "years 1990 1991 1992 and 100 200 300 400",
    "300.1.2.3 and 127.0.0.1 and 1.2.3.4.5",
    "user@ and @name and a@b",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "0000 0000 0000 0000",
    "ratio 16:9, std::vector, a::b",
    "ISBN 978-3-16-148410-0",
    "2223 0031 2200 3221 and 2720 9900 0000 0001 and 2121 2121 2121 2126",
    "de88 3704 0044 0532 0130 00",
    "torch 2.13.0, Windows 10.0.19041.1237, Chrome 115.0.5790.170, 1.10.100.1000",
    "1914-1918, 1999 2000 2001, 2010/2011 and 2012/2013",
    "won 21-19 21-17, 6-4 7-6 6-3 (7-5), 112-108; scores 98 87 76 65 54",
    "01-02-2024 10:30, 2024/01/02 03:04:05, 20240115103000, 1.5.2024 - 3.6.2024",
    "population 331 449 281, 1 234 567, 1.234.567,89 and 450 000 - 500 000",
    "order 123456789, id 1234567890, #4155552671, CVE-2024-12345678, zip 12345-6789",
    "128 256 512 1024, 640 480 1024 768, 0 1 1 2 3 5 8 13 21 34 55",
    "function 3 with 1024 2048 arguments, x + 1234567 - 89",
    "arXiv 1706.03762, DOI 10.1000/182, 51.5074 -0.1278",
]


@pytest.mark.parametrize(("text", "wanted"), PERSONAL)
def test_personal_data_is_found(text: str, wanted: list[str]) -> None:
    found = [f"{item.kind}:{text[item.start : item.end]}" for item in find_personal(text)]
    assert len(found) == len(wanted)
    assert all(have.startswith(want) for have, want in zip(found, wanted, strict=True)), found
    assert not find_personal(redact(text))


def test_without_its_packages_nothing_is_passed_over_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal, "find_spec", lambda name: None)
    personal._check_packages.cache_clear()
    with pytest.raises(TrueupError, match=r"E732 find_personal .*trueup\[personal\]") as caught:
        find_personal("nobody")
    assert caught.value.exit_code == 69
    monkeypatch.undo()
    assert find_personal("write to a@b.org")[0].kind == "email"


@pytest.mark.parametrize("text", IMPERSONAL)
def test_numbers_that_are_nobodys_are_passed_over(text: str) -> None:
    assert find_personal(text) == []


REGIONS_AND_TYPES = [(region, type) for region in REGIONS for type in ("FIXED_LINE", "MOBILE")]


def test_numbers_of_every_region_are_found_in_each_of_their_formats() -> None:
    """Those that the library gives as examples; national ones after a word that says what they are."""
    formats = phonenumbers.PhoneNumberFormat
    for region, type in REGIONS_AND_TYPES:
        number = phonenumbers.example_number_for_type(region, getattr(phonenumbers.PhoneNumberType, type))
        said = {
            name: phonenumbers.format_number(number, getattr(formats, name))
            for name in ("INTERNATIONAL", "E164", "NATIONAL")
        }
        national = said["NATIONAL"]
        for text in (said["INTERNATIONAL"], said["E164"], f"Tel. {national}", f"Call me: {national}, please"):
            (found,) = find_personal(text)
            assert found.kind == "phone" and text[found.start : found.end] in said.values(), (region, text)


def test_national_numbers_need_no_word_where_their_form_says_it() -> None:
    found = 0
    for region, type in REGIONS_AND_TYPES:
        number = phonenumbers.example_number_for_type(region, getattr(phonenumbers.PhoneNumberType, type))
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        found += bool(find_personal(f"he said {national} to her"))
    assert found / len(REGIONS_AND_TYPES) >= 0.85


def test_groups_with_personal_data_leave_by_kind() -> None:
    groups = [group("hi", id="a"), group("me@x.org", id="b"), group("q", answer="+14155552671", id="c")]
    kept = drop_personal(groups)
    assert names(kept) == ["a"]
    assert kept.dropped == {"personal data: email": 1, "personal data: phone": 1}
    assert names(drop_personal(groups, kinds=["phone"])) == ["a", "b"]


def test_near_duplicates_are_the_exact_ones_above_the_threshold() -> None:
    """Against all pairs by brute force: none false, and at this similarity none missed."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(60)]
    for i in range(20):
        changed = texts[i].split()
        changed[rng.randrange(30)] = "other"
        texts.append(" ".join(changed) + "!")
    found = near_duplicates(texts, threshold=0.7, num_words=1)

    def jaccard(a: str, b: str) -> float:
        left, right = set(a.replace("!", "").split()), set(b.replace("!", "").split())
        return len(left & right) / len(left | right)

    wanted = {(i, j): jaccard(texts[i], texts[j]) for i, j in combinations(range(80), 2)}
    wanted = {pair: value for pair, value in wanted.items() if value >= 0.7}
    assert {(i, j) for i, j, _ in found} == set(wanted) and len(found) >= 20
    assert all(value == pytest.approx(wanted[i, j], abs=1e-12) for i, j, value in found)
    assert near_duplicates(["Hello,  World!", "hello world"], threshold=1.0) == [(0, 1, 1.0)]
    assert near_duplicates(["", "", "a"]) == []


def test_near_duplicate_prompts_leave_and_the_first_stays() -> None:
    long = "tell me a long story about a cat that lives in a house by the sea with an old man"
    groups = [group(long, id="a"), group("something else entirely", id="b"), group(long + "!", id="c")]
    groups += [group(long.upper(), id="d")]
    kept = drop_near_duplicates(groups)
    assert names(kept) == ["a", "b"] and kept.dropped == {"near-duplicate": 2}


def test_overlap_finds_same_prompts_and_thirteen_words_in_a_row() -> None:
    run = " ".join(f"word{i}" for i in range(13))
    train = [group("What is  2+2?"), group("x", answer=f"before {run} after"), group("other")]
    evaluation = [
        group("what is 2 2", id="same"),
        group(f"Say: {run.upper()}.", id="run"),
        group(" ".join(run.split()[:12]), id="twelve words"),
        group("new"),
    ]
    found = overlap(train, evaluation)
    assert (found.same, found.ngram, found.share) == ((0,), (1,), 0.5)
    kept = drop_overlap(train, evaluation)
    assert kept.dropped == {"prompt in eval": 1, "13-gram in eval": 1} and len(kept.groups) == 1
    assert overlap([], evaluation).share == 0.0 and overlap(train, []).share == 0.0


def test_a_lost_group_cannot_pass() -> None:
    with pytest.raises(AssertionError, match="lost"):
        Kept(groups=[], num_in=2, dropped={"x": 1}, reasons={0: "x"})
