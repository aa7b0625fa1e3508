"""The run's summary for a terminal: the headline, one row a policy, and the tax."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trueup.errors import counted
from trueup.reports.headline import TERMS, details, headline, label
from trueup.reports.numbers import between, estimate, nats
from trueup.reports.record import Interval, parse_policies
from trueup.reports.visible import visible


def render_summary(summary: Mapping[str, Any], *, width: int = 100) -> str:
    """The summary as plain text, at most `width` columns wide, without colour codes.

    Control characters in it are written out, so nothing a model said can move the cursor.
    """
    policies = parse_policies(summary)
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        color_system=None,
        force_jupyter=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    if policies:
        console.print(_text(TERMS))
    console.print(_text(headline(policies)))
    for sentence in details(policies, ()):
        console.print(_text(sentence))
    if policies:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        table.add_column("policy", no_wrap=True)
        for name in ("gold", "gain", "win rate", "KL"):
            table.add_column(name, justify="right")
        for policy in policies:
            win = policy.win_rate
            bound = "≤ " if policy.kl_kind == "bound" and policy.kl else ""
            table.add_row(
                _text(label(policy.name)),
                _cell(policy.gold),
                _cell(policy.gain, signed=True),
                "–"
                if win is None
                else f"{100 * win.mean:.0f} % {between(win.low, win.high, as_percent=True)}",
                bound + nats(policy.kl.mean if policy.kl else None),
            )
        console.print(table)
    count = summary.get("num_prompts")
    over = f"over {counted(count, 'prompt')}" if isinstance(count, int) else "over the evaluated prompts"
    console.print(_text(f"Brackets: 95 % intervals {over}."))
    # Lines are broken by now, and a terminal's reader copies plain spaces.
    written = out.getvalue().replace("\u00a0", " ").replace("\u202f", " ")
    return "\n".join(line.rstrip() for line in written.splitlines()) + "\n"


def _cell(value: Interval | None, *, signed: bool = False) -> str:
    return "–" if value is None else estimate(value, signed=signed)


def _text(content: str) -> Text:
    return Text(visible(content))
