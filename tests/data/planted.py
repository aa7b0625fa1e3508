"""A corpus of planted personal data in twelve countries' formats, and ordinary sentences that hold none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

PHONES = {
    "US": ("(212) 736-####", "212-736-####", "+1 212 736 ####"),
    "GB": ("020 7946 ####", "+44 20 7946 ####", "07911 12####"),
    "FR": ("01 42 68 ## ##", "+33 6 12 34 ## ##", "06 12 34 ## ##"),
    "DE": ("030 9018####", "+49 30 9018####", "0171 234####"),
    "IT": ("06 6982 ####", "+39 347 123 ####", "+39 06 6982 ####"),
    "ES": ("+34 612 34# ###", "+34 912 34 ## ##", "Tel. 912 34 ## ##"),
    "IN": ("+91 98765 4####", "call 98765 4####", "+91-98765-4####"),
    "BR": ("(11) 91234-####", "+55 11 91234-####", "(21) 98765-####"),
    "CN": ("+86 138 0013 ####", "电话 138 0013 ####", "+86 10 6552 ####"),
    "JP": ("03-3224-####", "+81 3-3224-####", "090-1234-####"),
    "AU": ("(02) 9374 ####", "0412 34# ###", "+61 412 34# ###"),
    "NL": ("020 624 ####", "+31 6 1234 ####", "06 1234 ####"),
}
"Formats of each country's numbering plan; # is any digit."
IBANS = {
    "GB": "NWBK##############", "DE": "##################", "NL": "ABNA##########", "AT": "################",
    "CH": "#################", "DK": "##############", "IE": "AIBK##############",
}  # fmt: skip
"What stands behind each country's check digits, where it has none of its own inside."
FIRSTS = ("ann", "li.wei", "josé", "mary-jane", "o_brien", "max+news", "jürgen", "x9", "anna.k", "山田")
DOMAINS = (
    "example.org",
    "mail.example.co.uk",
    "example.de",
    "uni.example.fr",
    "example.com.br",
    "例え.jp",
    "x.io",
)
AROUND = ("Please write to {} today.", "{}", "my details: {}, thanks", "It is {} (home).", "Send it to <{}>.")


def planted(num: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Items as (kind, the piece, the sentence around it), each kind as often as the others."""
    draw = random.Random(seed)
    kinds: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
        ("email", email), ("phone", phone), ("card", card), ("iban", iban), ("ip", ip),
    )  # fmt: skip
    for place in range(num):
        kind, make = kinds[place % len(kinds)]
        piece = make(draw)
        yield kind, piece, draw.choice(AROUND).format(piece)


def filled(form: str, draw: random.Random) -> str:
    return "".join(str(draw.randrange(10)) if sign == "#" else sign for sign in form)


def email(draw: random.Random) -> str:
    return f"{draw.choice(FIRSTS)}{draw.choice(('', str(draw.randrange(99))))}@{draw.choice(DOMAINS)}"


def phone(draw: random.Random) -> str:
    return filled(draw.choice(PHONES[draw.choice(sorted(PHONES))]), draw)


def card(draw: random.Random) -> str:
    head, length = draw.choice((("4", 16), ("51", 16), ("2221", 16), ("34", 15), ("6011", 16)))
    body = head + "".join(str(draw.randrange(10)) for _ in range(length - len(head) - 1))
    twice = sum(sum(divmod(2 * int(sign), 10)) for sign in reversed(body[::-1][::2]))
    last = -(twice + sum(int(sign) for sign in body[::-1][1::2])) % 10
    digits, gap = f"{body}{last}", draw.choice(("", " ", "-"))
    return gap.join(digits[at : at + 4] for at in range(0, length, 4))


def iban(draw: random.Random) -> str:
    """ISO 13616: the remainder by 97 of the number with its head behind it is 1."""
    country = draw.choice(sorted(IBANS))
    body = filled(IBANS[country], draw)
    number = "".join(str(int(sign, 36)) for sign in f"{body}{country}00")
    whole = f"{country}{98 - int(number) % 97:02d}{body}"
    gap = draw.choice(("", " "))
    return gap.join(whole[at : at + 4] for at in range(0, len(whole), 4))


def ip(draw: random.Random) -> str:
    if draw.random() < 0.5:
        return ".".join(str(draw.randrange(1, 255)) for _ in range(4))
    return f"2001:db8:{draw.randrange(1, 65535):x}::{draw.randrange(1, 65535):x}"


THINGS = (
    "The meeting is on 2024-05-17 at 14:30 in room 204.",
    "Pi is about 3.14159265358979, e is 2.718281828.",
    "Version 10.15.7 came out before 11.0.1.",
    "The population was 1,234,567 in 2019.",
    "My flight LH 2034 was late.",
    "Order 100-2345 has 3 items.",
    "Read pages 112-118 of chapter 12.",
    "The ratio is 16:9 and not 4:3.",
    "ISBN 978-3-16-148410-0 is an example.",
    "It costs 1 299,00 in the shop.",
    "She ran 42.195 km in 3:05:12.",
    "The years 1914-1918 and 1939-1945 changed much.",
    "Use 0.001 as the learning rate.",
    "He was born on 03/04/1985.",
    "Add 250 g of flour and 125 ml of milk.",
    "The score was 21-19, 18-21, 21-17.",
    "Section 4.2.1 says the opposite.",
    "The ZIP code is 94103-1234.",
    "Light travels 299 792 458 metres a second.",
    "Mention me as @ann on the forum.",
    "The price went from $1,200 to $950.",
    "RGB 255 128 0 is an orange.",
    "It is 1:0 after 45 minutes.",
    "The coordinates are 48.8566, 2.3522.",
    "Bring 2 x 4 m of rope.",
    "Python 3.12.1 runs it in 0.25 s.",
    "The code is ABC-123-XYZ.",
    "Call me later, please.",
    "He dialled and nobody answered.",
    "2^31 - 1 is prime.",
    "The atomic mass is 1.00794.",
    "Buy 12 eggs @ 30 cents each.",
    "Channel 5 shows it at 20:15.",
    "The IP rating is IP67.",
    "Set the mask to 24 bits.",
    "The sum of 1 2 3 4 5 6 7 8 9 is 45.",
    "Her thesis has 214 pages and 1,032 references.",
    "From 9:00 to 17:30, Monday to Friday.",
    "The serial number is 0012345.",
    "Mix in the ratio 1:2:3.",
)
PLACES = (
    "In the report: {}",
    "{} Is that right?",
    "Explain this to a child. {}",
    "Translate: {}",
    "{} Say why.",
)


def ordinary() -> list[str]:
    """Two hundred sentences without personal data, most with numbers."""
    return [place.format(thing) for thing in THINGS for place in PLACES]
