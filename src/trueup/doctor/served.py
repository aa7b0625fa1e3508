"""Why a sampler's log-probs are not the trainer's: the doctor's verdict on a few completions of a run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from trueup.doctor.dump import Row
from trueup.doctor.gaps import finding_of_law, finding_of_policy
from trueup.doctor.scan import Opened, scan
from trueup.doctor.verdict import gaps_of, judge
from trueup.models.forward import LanguageModel, in_use

FINER = 2.0**-16
"What rounding to float32 adds, as a share of what rounding to bfloat16 does: 24 bits of mantissa, not 8."


class Cause(NamedTuple):
    """What explains a gap."""

    kind: str
    "`temperature`, `truncated support`, ..., `precision`, or `stale weights or cache`."
    says: str
    remedy: str


def cause_of(rows: Sequence[Row], network: LanguageModel) -> Cause:
    """What explains the gaps of the rows' `sampler` log-probs from the network's, as `trueup doctor` finds.

    A law of all tokens first (temperature, truncation, shifted or swapped rows), sought as finely as float32
    allows; else rounding, where the gaps are of the size that bfloat16 gives these very tokens; else another
    policy's weights.
    """
    plain = network.with_temperature(1.0)  # rows have their own
    wide = network.dtype in (torch.float32, torch.float64)
    other = _at(plain, torch.bfloat16 if wide else torch.float32)
    exact, rounded = (plain, other) if wide else (other, plain)
    wanted = [np.isfinite(row.sampler) for row in rows if row.sampler is not None]
    with in_use(network.module):
        found = scan(Opened(chat=None, exact=exact, rounded=rounded), rows, wanted)
    assert found is not None, "every completion has a token"
    verdict = None
    for one in (replace(found, noise=found.noise * FINER, precision="float32"), found):
        gaps = gaps_of(one, "sampler")
        assert gaps is not None
        verdict = judge(gaps)
        if verdict.law is not None:
            law = finding_of_law(verdict, "sampler")
            return Cause(law.name, law.says, law.remedy)
    assert verdict is not None
    if not verdict.clean:
        policy = finding_of_policy(verdict, "sampler")
        return Cause(policy.name, policy.says, policy.remedy)
    sizes = [float(np.sqrt(np.mean(x**2))) for x in (verdict.gaps.gap, found.noise)]
    return Cause(
        "precision",
        f"The gaps are {sizes[0]:.2g} nats rms a token, and rounding to bfloat16 gives {sizes[1]:.2g} of the "
        "same tokens: sampler and trainer compute in different precisions",
        "Start the server with --dtype float32, or allow what rounding gives: --sampler.max_gap 0.1.",
    )


def _at(network: LanguageModel, dtype: torch.dtype) -> LanguageModel:
    return replace(network, module=copy.deepcopy(network.module).to(dtype).eval())
