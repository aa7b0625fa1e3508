"""Programs of the lab's stack language: `push 3 push 4 add` leaves 7."""

from __future__ import annotations

OPERATIONS = ("add", "sub", "mul")
MAX_WORDS = 12


def run_program(text: str) -> int | None:
    """The number that the program leaves; None if it is malformed or does not leave exactly one number.

    Words are `push N` (0 <= N <= 9), `add`, `sub`, `mul`; at most 12 words.
    """
    words = text.split()
    if not words or len(words) > MAX_WORDS:
        return None
    stack: list[int] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "push" and at + 1 < len(words) and words[at + 1].isascii() and words[at + 1].isdigit():
            if len(words[at + 1]) > 1:
                return None
            stack.append(int(words[at + 1]))
            at += 2
        elif word in OPERATIONS and len(stack) >= 2:
            right, left = stack.pop(), stack.pop()
            stack.append(left + right if word == "add" else left - right if word == "sub" else left * right)
            at += 1
        else:
            return None
    return stack[0] if len(stack) == 1 else None
