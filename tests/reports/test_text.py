"""The terminal summary says the same as the page and cannot drive the terminal."""

from __future__ import annotations

import numpy as np

from fake_run import fake_summary
from trueup.reports import render_summary


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_summary_holds_headline_and_every_policy() -> None:
    text = render_summary(fake_summary(np.random.default_rng(0)), width=110)
    assert _flat(text).startswith("Gold is the reward that is believed, which training does not see unless")
    assert "on it. PPO raised gold reward over SFT by +0.123 [+0.092, +0.154] at KL 2.13" in _flat(text)
    for name in ("base", "base + HHH", "SFT", "best-of-16", "DPO", "PPO"):
        assert f"\n {name} " in text
    assert "0.575 [0.544, 0.606]" in _flat(text)
    assert "95 % intervals over 400 prompts" in text
    assert max(map(len, text.splitlines())) <= 110


def test_narrow_terminals_are_respected() -> None:
    text = render_summary(fake_summary(np.random.default_rng(0)), width=60)
    assert max(map(len, text.splitlines())) <= 60


def test_text_cannot_drive_the_terminal() -> None:
    text = render_summary(fake_summary(np.random.default_rng(0), "\x1b[2J[red]\x07\u202e:smile:"))
    assert not set(text) & set("\x1b\x07\u202e")
    assert "[red]" in text and ":smile:" in text


def test_empty_summary() -> None:
    assert render_summary({}).startswith("This run holds no evaluated policy yet.")
