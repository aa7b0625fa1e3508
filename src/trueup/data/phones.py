"""Phone numbers in text, in international and national formats, by phonenumbers (`trueup[personal]`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from types import ModuleType

REGIONS = (
    "US", "GB", "FR", "DE", "IT", "ES", "IN", "BR", "CN", "JP", "KR", "RU", "AU", "MX",
    "NL", "BE", "CH", "AT", "PL", "SE", "NO", "DK", "FI", "PT", "IE", "GR", "TR", "ZA",
    "NG", "KE", "EG", "IL", "SA", "AE", "PK", "BD", "ID", "PH", "TH", "VN", "MY", "SG",
    "HK", "TW", "NZ", "AR", "CL", "CO", "PE", "CZ", "HU", "RO", "UA",
)  # fmt: skip
"Whose national formats are known."
_DASHES = r"\-\u2010-\u2013"
_CANDIDATE = re.compile(
    rf"(?<![\w.,:/#$€£@{_DASHES}+])(?:\+ ?|\()?\d[\d \u00a0()./{_DASHES}]{{5,48}}(?<=\d)"
    rf"(?!\w|[.,:/{_DASHES}]\d|%)"
)
_PIECE = re.compile(r"[^ \u00a0]+")
_CUE = re.compile(
    r"(?:\b(?:call|dial|ring|phone|t[ée]l(?:[ée](?:ph|f)\w*)?|mob(?:ile|il)?|cell(?:phone|ulare)?|fax|hotline|sms"
    r"|whatsapp|(?:text|reach) (?:me|us)|(?:my|your|his|her|our) (?:new )?number|handy|portable|appele[rz]"
    r"|m[óo]vil|celular|ll[aá]ma(?:me|nos|r|le)|ligue|ruf(?:en|t)?|nummer|num[eé]ro|n[úu]mero)\b|☎|📞|📱"
    r"|тел\w*|звони\w*|电话|電話|手机|手機|携帯|전화|फ़?ोन|मोबाइल|هاتف|جوال|โทร)\W*(?:[^\W\d]+\W+){0,3}$",
    flags=re.IGNORECASE,
)
"Words that say that a number to call follows, at most three words before it."
_BEFORE = 60
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d{2}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d{2})(?!\d)"
)
_YEARS = re.compile(r"(?:(?:19|20)\d{2}\D+)+(?:19|20)\d{2}")
_THOUSANDS = re.compile(r"\d{1,3}([ .\u00a0])\d{3}(?:\1\d{3})*")
_DECIMAL = re.compile(r"0[.,]\d+.*")
_CODE = re.compile(r"\d{5}-\d{4}|\d{3}-\d{2}-\d{4}|.*[ \u00a0]\D+[ \u00a0].*")
"An American postcode or insurance number; two numbers with a sign between spaces."
_BRACKETED = re.compile(
    rf"(?:\d{{1,3}}[ {_DASHES}]?)?\((?P<area>\d{{1,5}}(?: \d{{1,3}})?)\)[ \d./{_DASHES}]+"
)
_AMERICAN = re.compile(
    rf"(?:1[ .{_DASHES}])?\(?[2-9]\d{{2}}\)?[ ./{_DASHES}]{{1,2}}\d{{3}}[ .{_DASHES}]\d{{4}}"
)
_LOCAL = re.compile(rf"\d{{3}}[ .{_DASHES}]\d{{4}}")
_COUNTED = ("0123456789012345", "1234567890123456", "9876543210987654")


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Where the phone numbers of a text stand, each by start and end.

    International ones begin with + or 00. National ones have a trunk 0, a bracketed area code, America's
    3-3-4, or are grouped as their country groups them; after a word such as "call" or "Tel." any valid one
    counts. Dates, years, versions, decimals and numbers grouped by thousands are passed over.
    """
    for match in _CANDIDATE.finditer(text):
        cued = bool(_CUE.search(text[max(0, match.start() - _BEFORE) : match.start()]))
        pieces = [(match.start() + p.start(), match.start() + p.end()) for p in _PIECE.finditer(match[0])]
        first, begins = 0, True
        while first < len(pieces):
            found = _longest(text, pieces[first:], cued=cued, begins=begins, all=first == 0)
            if found:
                yield pieces[first][0], pieces[first + found - 1][1]
            begins, first = found > 0, first + max(found, 1)


def _longest(text: str, pieces: list[tuple[int, int]], *, cued: bool, begins: bool, all: bool) -> int:
    """How many of the pieces, from the first on, make a number; 0 if none do.

    In the middle of other digits (not `begins`) only a + or a bracket begins one.
    """
    start = pieces[0][0]
    if not begins and text[start] not in "+(":
        return 0
    sizes = range(len(pieces), 0, -1)
    good = (n for n in sizes if is_phone(text[start : pieces[n - 1][1]], cued, all and n == len(pieces)))
    return next(good, 0)


@lru_cache(maxsize=10_000)
def is_phone(text: str, cued: bool = False, alone: bool = True) -> bool:
    """Whether a piece of text is a phone number.

    `cued` where the words before it say so; `alone` where no further numbers stand beside it.
    """
    digits = re.sub(r"\D", "", text)
    if not 7 <= len(digits) <= 15:
        return False
    if text[0] == "+" or digits.startswith("00"):
        return _is_international(text, digits)
    if _no_phone(text):
        return False
    if cued and (_LOCAL.fullmatch(text) or _is_valid(text)):
        return True
    if _AMERICAN.fullmatch(text):
        return alone or any(sign not in " \u00a00123456789" for sign in text)
    return _is_bracketed(text, digits) if "(" in text else _is_national(text, digits, alone)


def _is_bracketed(text: str, digits: str) -> bool:
    """Whether an area code stands in brackets."""
    inside = _BRACKETED.fullmatch(text)
    return inside is not None and ((len(digits) >= 9 and len(inside["area"]) > 1) or _is_valid(text))


def _is_national(text: str, digits: str, alone: bool) -> bool:
    """Whether a trunk 0 or the groups say that it is a national number."""
    sizes = [len(group) for group in re.findall(r"\d+", text)]
    if len(digits) < 9 or min(sizes[1:], default=2) < 2 or _THOUSANDS.fullmatch(text):
        return False
    if digits[0] == "0":
        return _is_valid(text)
    grouped = alone and len(sizes) > 1 and max(sizes) > 2 and "." not in text
    return grouped and _is_grouped(text)


def _no_phone(text: str) -> bool:
    """Whether it is a date, years, a decimal, or digits that are counted or all the same."""
    counted = any(text in run for run in _COUNTED) or len(set(re.findall(r"\d", text))) == 1
    return counted or bool(_DATE.search(text)) or any(p.fullmatch(text) for p in (_YEARS, _DECIMAL, _CODE))


def _is_international(text: str, digits: str) -> bool:
    library = _library()
    plus = f"+{digits.removeprefix('00')}"
    try:
        number = library.parse(plus, None)
    except library.NumberParseException:
        return False
    if library.is_valid_number(number):
        return True
    # Numbers kept for fiction, as 555 in America, are nobody's and yet meant as somebody's.
    return text[0] == "+" and len(digits) >= 10 and library.is_possible_number(number)


def _is_valid(text: str) -> bool:
    """Whether it is a valid number of any of the regions."""
    library = _library()
    for region in REGIONS:
        try:
            if library.is_valid_number_for_region(library.parse(text, region), region):
                return True
        except library.NumberParseException:
            continue
    return False


def _is_grouped(text: str) -> bool:
    """Whether one of the regions writes such a number in these groups."""
    library = _library()
    strict = library.Leniency.STRICT_GROUPING
    return any(
        match.raw_string == text
        for region in REGIONS
        for match in library.PhoneNumberMatcher(text, region, leniency=strict)
    )


@cache
def _library() -> ModuleType:
    import phonenumbers

    return phonenumbers
