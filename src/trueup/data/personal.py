"""Personal data in text: e-mail, phone, payment card, IBAN and IP addresses, with their own check digits."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])"
)
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d]|[.-]\d)")
_IBAN = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){3,8}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?)?\d{2,4}(?:[ .-]\d{2,4}){1,4}(?![\w-]|\.\d)"
)
_SOLID_PHONE = re.compile(r"(?<![\w.+-])(?:\+\d{8,15}|\(\d{2,5}\)[ .-]?\d{3,9})(?![\w-]|\.\d)")
_SPACED = re.compile(r"\d{3} \d{3} \d{4}|0\d(?: \d{2}){4}")
_IBAN_LENGTHS = range(15, 35)


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of personal data: its kind and where it stands in the text."""

    kind: str
    start: int
    end: int


def find_personal(text: str) -> list[Found]:
    """The e-mail addresses, cards, IBANs, IP addresses and phone numbers in the text, in their order.

    Cards must pass Luhn's check and IBANs the remainder of ISO 13616 (97), so random numbers rarely count.
    Phone numbers need a leading +, a bracketed area code, or 9 to 15 digits in telephone groups; dates and
    decimal numbers are passed over. Names and postal addresses are not looked for.
    """
    found: list[Found] = []
    taken = [False] * (len(text) + 1)
    for kind, pattern, holds in _KINDS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if not any(taken[start:end]) and holds(match.group()):
                taken[start:end] = [True] * (end - start)
                found.append(Found(kind, start, end))
    return sorted(found, key=lambda item: item.start)


def redact(text: str) -> str:
    """The text with each piece of personal data replaced by its kind in brackets, as in `[email]`."""
    for item in reversed(find_personal(text)):
        text = f"{text[: item.start]}[{item.kind}]{text[item.end :]}"
    return text


def passes_luhn(number: str) -> bool:
    """Whether the digits pass Luhn's check: every second from the right doubled, sum divisible by 10."""
    digits = [int(char) for char in number if char.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return len(digits) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def passes_iban(text: str) -> bool:
    """Whether the text is an IBAN: the country's part behind, letters as 10 to 35, remainder 1 modulo 97."""
    plain = text.replace(" ", "")
    if len(plain) not in _IBAN_LENGTHS:
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return digits[0] in "3456" and len(set(digits)) > 1 and passes_luhn(digits)


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(map(str.isdigit, text)) and not (address.is_unspecified or address.is_loopback)


def _is_phone(text: str) -> bool:
    num_digits = sum(char.isdigit() for char in text)
    if re.fullmatch(r"\d{4}[ .-]\d{2}[ .-]\d{2}|\d{2}[ .-]\d{2}[ .-]\d{4}", text):
        return False
    if text[0] in "+(":
        return 7 <= num_digits <= 15
    if " " in text:
        return _SPACED.fullmatch(text) is not None
    return 9 <= num_digits <= 15 and 3 <= len(re.findall(r"\d+", text)) <= 5


_KINDS = (
    ("email", _EMAIL, lambda text: True),
    ("iban", _IBAN, passes_iban),
    ("card", _CARD, _is_card),
    ("ip", _IPV4, _is_ip),
    ("ip", _IPV6, _is_ip),
    ("phone", _PHONE, _is_phone),
    ("phone", _SOLID_PHONE, _is_phone),
)
