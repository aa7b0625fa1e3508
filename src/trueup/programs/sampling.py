"""The tasks of writing programs."""

from __future__ import annotations

from trueup.evals.entries import Entry
from trueup.evals.tasks import AT_ONCE
from trueup.programs.items import read_programs
from trueup.programs.pass_rates import pass_task
from trueup.sources.sample import Decoding

_PASS_RATES = ((1, 10, 0.2), (10, 20, 0.8))
"k, programs of each problem, temperature: low for one try, high for many (Chen et al. 2021, 3.3)."
ENTRIES = tuple(
    Entry(
        task=pass_task(
            k,
            num_samples=num,
            decoding=Decoding(max_new_tokens=512, temperature=temperature, top_p=0.95),
            at_once=AT_ONCE,
        ),
        about="programs that pass their tests, run in the sandbox",
        reference="Chen et al. 2021, arXiv 2107.03374",
        rows="HumanEval's or MBPP's own",
        read=read_programs,
    )
    for k, num, temperature in _PASS_RATES
)
