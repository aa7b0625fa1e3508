"""Personal data in text: e-mail, phone, payment card, IBAN and IP addresses, with their own check digits.

Check digits are python-stdnum's, formats of phone numbers those of phonenumbers.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import islice
from typing import Any

from trueup.data.phones import find_phones
from trueup.errors import TrueupError

_OTHER = "\u00c0-\u1fff\u2c00-\u2fef\u3040-\ud7ff\uf900-\ufdff\ufe70-\ufefc\uff66-\uffdc\U00010000-\U0003ffff"
"Letters and marks beyond ASCII, no punctuation: of internationalised addresses (RFC 6531)."
_EMAIL = re.compile(
    rf"(?<![\w.+-])[A-Za-z0-9{_OTHER}][\w.+{_OTHER}-]{{0,63}}@"
    rf"(?:[A-Za-z0-9{_OTHER}](?:[A-Za-z0-9{_OTHER}-]{{0,61}}[A-Za-z0-9{_OTHER}])?[.\u3002])+"
    rf"(?:[A-Za-z]{{2,24}}|[{_OTHER}]{{2,24}}|xn--[a-z0-9-]{{2,59}})(?![\w-])",
)
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d]|[.-]\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_IBAN_PART = re.compile(r"(?<=[A-Za-z0-9])(?=[ -]|$)")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_MASTERCARD_2 = range(2221, 2721)
"First four digits of the newer of Mastercard's two series."


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of personal data: its kind and where it stands in the text."""

    kind: str
    start: int
    end: int


def find_personal(text: str) -> list[Found]:
    """The e-mail addresses, cards, IBANs, IP addresses and phone numbers in the text, in their order.

    Cards must have an issuer's first digits and pass Luhn's check, IBANs be as their country makes them with
    the remainder of ISO 13616 (97), so random numbers rarely count; what a phone number is, `find_phones`
    says. E-mail addresses and their domains may be of any script (RFC 6531). Names and postal addresses are
    not looked for. Raises E732 without the packages of `trueup[personal]`.
    """
    _check_packages()
    found: list[Found] = []
    taken = [False] * (len(text) + 1)
    for kind, spans in _KINDS.items():
        for start, end in spans(text):
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                found.append(Found(kind, start, end))
    return sorted(found, key=lambda item: item.start)


def redact(text: str) -> str:
    """The text with each piece of personal data replaced by its kind in brackets, as in `[email]`."""
    for item in reversed(find_personal(text)):
        text = f"{text[: item.start]}[{item.kind}]{text[item.end :]}"
    return text


class Numbered:
    """Replaces personal data by its kind and a number: the same address is `[EMAIL_1]` again."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        "How many pieces were replaced, by kind."
        self._numbers: dict[str, dict[str, int]] = {}

    def __call__(self, text: str) -> str:
        """The text with each piece of personal data as `[EMAIL_1]`; how it is spaced is no matter."""
        pieces, end = [], 0
        for item in find_personal(text):
            seen = self._numbers.setdefault(item.kind, {})
            number = seen.setdefault(_bare(text[item.start : item.end], item.kind), len(seen) + 1)
            pieces += [text[end : item.start], f"[{item.kind.upper()}_{number}]"]
            end = item.end
            self.counts[item.kind] += 1
        return "".join((*pieces, text[end:]))

    def within(self, value: Any) -> Any:
        """A value of JSON with every text in it replaced, at any depth; keys and numbers stay."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {key: self.within(inner) for key, inner in value.items()}
        return [self.within(inner) for inner in value] if isinstance(value, list | tuple) else value


def _bare(text: str, kind: str) -> str:
    return text.casefold() if kind in ("email", "ip") else re.sub(r"[^0-9a-z]", "", text.casefold())


@cache
def _check_packages() -> None:
    """Nothing; no kind is passed over in silence because a package is missing."""
    for name in ("phonenumbers", "stdnum"):
        if find_spec(name) is None:
            raise TrueupError(
                "E732",
                f"personal data is found with the package {name}, which is not installed",
                where="find_personal",
                remedy="pip install 'trueup[personal]'",
            )


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        # What follows may be words: the longest beginning that is an IBAN.
        ends = [place.start() for place in _IBAN_PART.finditer(match[0])]
        good = (end for end in reversed(ends) if _is_iban(match[0][:end]))
        for end in islice(good, 1):
            yield match.start(), match.start() + end


def _is_iban(text: str) -> bool:
    from stdnum import iban  # half of a tenth of a second, for the few texts that have one

    return len(text) >= 15 and iban.is_valid(text)


def _cards(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _CARD.finditer(text) if _is_card(match[0]))


def _is_card(text: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", text)
    issued = digits[0] in "3456" or (len(digits) == 16 and int(digits[:4]) in _MASTERCARD_2)
    return issued and len(set(digits)) > 1 and luhn.is_valid(digits)


def _ips(text: str) -> Iterator[tuple[int, int]]:
    matches = (match for pattern in (_IPV4, _IPV6) for match in pattern.finditer(text))
    return (match.span() for match in matches if _is_ip(match[0]))


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(map(str.isdigit, text)) and not (address.is_unspecified or address.is_loopback)


_KINDS: Mapping[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _ips,
    "phone": find_phones,
}
