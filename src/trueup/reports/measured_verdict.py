"""What a measurement found and what it cannot say, in sentences computed from its numbers.

A direction ("raises", "ahead of") is only claimed where the 95 % interval excludes zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trueup.errors import counted
from trueup.reports.checked import Interval
from trueup.reports.headline import apart, label, score_of, tax_clause
from trueup.reports.measurement import ALIKE, DIVERSITY, MeasuredModel, Measurement
from trueup.reports.numbers import between, count, duration, estimate, listed, nats, percent, plain

FEW_PROMPTS = 100
"Of fewer the page says that they are few: a gain of a tenth of a standard deviation needs about 400."
LONGER = 1.3
"Replies so many times as long as the start's may owe their score to their length."
SMALL = 0.05
"A figure of diversity that is lower by less is not worth a sentence."
CUT = 0.1
"Share of replies that met the limit of tokens, from which on the page says so."
MOST_NAMES = 5


def origin(m: Measurement) -> str:
    """The start's name as people say it."""
    return label(m.start) if m.start else "the start"


def terms(m: Measurement) -> str:
    """Who was asked what, and by whom it was judged: what the sentences below it take for granted."""
    if not m.models:
        return ""
    prompts = "the same prompts" if m.num_prompts is None else f"the same {counted(m.num_prompts, 'prompt')}"
    world = f" of {m.world}" if m.world else ""
    split = f" ({m.split})" if m.split else ""
    each = f", {m.samples_per_prompt} samples of each" if (m.samples_per_prompt or 1) > 1 else ""
    return f"{counted(len(m.models), 'model')} on {prompts}{world}{split}{each}. {_judged(m)}"


def _judged(m: Measurement) -> str:
    if not m.by:
        return ""
    if m.truth:
        return f"Compared by {m.by}, which this world holds to be true."
    if m.by in m.referees:
        return f"Compared by {m.by}, a judge that trained none of them."
    return f"Compared by {m.by}, a judge that trained {names(m.trained_by(m.by))}."


def best_of(m: Measurement) -> MeasuredModel | None:
    """The largest gain of those that are measurable, else the largest; None where no judge scored any."""
    scored = [one for one in m.models if m.by in one.gain or m.by in one.scores]
    raised = [one for one in scored if m.by in one.gain and one.gain[m.by].sign > 0]
    return next(iter(raised or scored), None)


def headline(m: Measurement) -> str:
    """The answer in one sentence: which model is best, by how much, how far it moved, what it lost."""
    best = best_of(m)
    if not m.models:
        return "No model was measured."
    if best is None:
        return "No judge scored these models, so nothing here says which is best."
    gain = best.gain.get(m.by)
    if gain is None:
        found = estimate(best.scores[m.by], say_unknown=True, space="\u00a0")
        if len(m.models) == 1:
            return f"{best.said} has a {score_of(m.by)} of {found}; no gain was computed."
        return f"{best.said} has the highest {score_of(m.by)}, {found}; no gain was computed."
    own = ", by the judge that trained it" if best in m.trained_by(m.by) else ""
    cost = f"{_far(best)}{own}; {tax_clause(best.tax)}."
    size = estimate(gain, signed=True, say_unknown=True, space="\u00a0")
    alone = len(m.models) == 1
    if gain.sign > 0 and not alone:
        return f"{best.said} gains most: {score_of(m.by)} {size} over {origin(m)}{cost}"
    if not alone:
        return (
            f"No model measurably raises the {score_of(m.by)} over {origin(m)}; the largest mean gain is "
            f"that of {best.said}: {size}{cost}"
        )
    if gain.sign:
        return f"{best.said} {_moved(gain)} the {score_of(m.by)} over {origin(m)} by {size}{cost}"
    return f"{best.said} does not measurably change the {score_of(m.by)} over {origin(m)}: {size}{cost}"


def details(m: Measurement) -> list[str]:
    """What else a reader needs to choose, a sentence each."""
    best = best_of(m)
    if best is None:
        return []
    found = [
        _standing(m, best),
        *_proxies(m),
        *_other_favourites(m, best),
        _directions(m),
        _wins(m, best),
        _replies(m, best),
        _cost(m),
    ]
    return [sentence for sentence in found if sentence]


def limits(m: Measurement) -> list[str]:
    """What nobody may conclude from the page, a sentence each; the last holds for every page."""
    if not m.models:
        return []
    return [
        *_limits_of_prompts(m),
        *_limits_of_judges(m),
        *_limits_of_models(m),
        "Whether another training seed would do as well: each model is one run, where trueup compare trains "
        "several.",
    ]


def _limits_of_prompts(m: Measurement) -> Iterator[str]:
    best = best_of(m)
    gain = best.gain.get(m.by) if best else None
    if m.num_prompts is None:
        yield "How far it holds for other prompts: their number is not in the file."
    elif m.num_prompts == 1:
        yield "Anything of other prompts: one was asked, so nothing has an interval."
    elif m.num_prompts < FEW_PROMPTS:
        seen = ""
        if gain is not None and gain.low is not None and gain.high is not None:
            seen = f": a gain within ±{plain((gain.high - gain.low) / 2)} is lost among them"
        yield f"Small differences: {m.num_prompts} prompts are few{seen}."
    unclear = [x for x in m.models if _includes_zero(x.gain.get(m.by))]
    if unclear:
        verb = "includes" if len(unclear) == 1 else "include"
        yield (
            f"Whether {names(unclear)} changed the {score_of(m.by)}: "
            f"the interval{'s' * (len(unclear) > 1)} {verb} zero, which is not the same as no change."
        )


def _limits_of_judges(m: Measurement) -> Iterator[str]:
    if not m.by:
        return
    learned = m.trained_by(m.by)
    if learned:
        other = (
            f"{listed(m.referees)} trained none: a referee" if m.referees else "no judge here is a referee"
        )
        yield (
            f"Whether {names(learned)} got better, or only better at pleasing {m.by}: that judge trained "
            f"{'them' if len(learned) > 1 else 'it'}, a proxy; {other}."
        )
    if not m.truth:
        yield f"What is true: no judge here is known to be right, and {m.by} is an opinion."


def _limits_of_models(m: Measurement) -> Iterator[str]:
    if not m.start:
        yield "What training gained: no start was measured beside the models."
    elif unknown := [x for x in m.models if x.kl is None]:
        yield (
            f"How far {names(unknown)} moved: the KL to {origin(m)} was not measured, or is not defined "
            "(other tokens, or no log-probabilities)."
        )
    if unsat := [x for x in m.models if not x.tax]:
        who = "" if len(unsat) == len(m.models) else f" by {names(unsat)}"
        yield f"What it cost in other skills: no exam was sat{who} that the start sat too."
    cut = {x.name: 1 - x.ended.mean for x in m.models if x.ended and x.ended.mean <= 1 - CUT}
    if cut:
        share = percent(max(cut.values()))
        whose = f"{share} of its" if len(cut) == 1 else f"up to {share} of their"
        said = names([x for x in m.models if x.name in cut])
        yield f"What {said} would have said in full: {whose} replies met the limit of tokens."
    best, start = best_of(m), m.origin
    if best and start and best.length and start.length and best.length.mean > LONGER * start.length.mean > 0:
        times = f"{best.length.mean / start.length.mean:.1f} times"
        yield f"Whether {best.said} is better or longer: its replies are {times} as long as the start's."


def _includes_zero(gain: Interval | None) -> bool:
    return gain is not None and gain.low is not None and gain.sign == 0


def _moved(gain: Interval) -> str:
    return "raises" if gain.sign > 0 else "lowers"


def _far(model: MeasuredModel) -> str:
    return "" if model.kl is None else f" at KL {nats(model.kl.mean)}"


def _standing(m: Measurement, best: MeasuredModel) -> str:
    """From whom the best can be told."""
    ahead, near = [], []
    for other in m.models:
        gap = None if other is best else _gap(m, best, other)
        if gap is not None:
            (ahead if gap > 0 else near).append(other)
    if not (ahead or near) or (m.by in best.gain and best.gain[m.by].sign <= 0):
        return ""
    if not near:
        return "Its lead over every other model is measurable."
    not_of = f"It cannot be told from {names(near)}"
    return f"{not_of}; it is measurably ahead of {names(ahead)}." if ahead else f"{not_of}."


def _gap(m: Measurement, best: MeasuredModel, other: MeasuredModel) -> int | None:
    """+1 where the best is measurably ahead: paired by prompt, else by half widths in quadrature."""
    if best.behind_best is None and other.behind_best is not None:
        return other.behind_best.sign
    both = [x.gain.get(m.by) if m.by in best.gain else x.scores.get(m.by) for x in (best, other)]
    return apart(*known) if len(known := [kept for kept in both if kept is not None]) == 2 else None


def _proxies(m: Measurement) -> list[str]:
    """What a judge says of whom it trained, beside a judge that trained none: the largest gain of each."""
    referee = m.by if m.by in m.referees else next(iter(m.referees), "")
    said = []
    for judge in m.judges:
        both = [x for x in m.trained_by(judge) if judge in x.gain and referee in x.gain]
        if not both:
            continue
        top = max(both, key=lambda x: x.gain[judge].mean)
        true = top.gain[referee]
        sizes = [estimate(v, signed=True, space="\u00a0") for v in (top.gain[judge], true)]
        less = ", which is not measurable" if _includes_zero(true) else ""
        said.append(
            f"Proxy and referee: {judge} trained {names(m.trained_by(judge))}. It gives {top.said} "
            f"{sizes[0]}; {referee}, the referee, {sizes[1]}{less}."
        )
    return said[:2]


def _other_favourites(m: Measurement, best: MeasuredModel) -> list[str]:
    """Judges that like another model best, and where that one stands."""
    said = []
    for judge in m.judges:
        liked = [x for x in m.models if judge in x.gain]
        if judge == m.by or len(liked) < 2:
            continue
        top = max(liked, key=lambda x: x.gain[judge].mean)
        if top is not best:
            place = 1 + m.models.index(top)
            said.append(
                f"Judge {judge} likes {top.said} best; by {m.by} it is number {place} of {len(m.models)}."
            )
    return said[:2]


def _directions(m: Measurement) -> str:
    known = [x for x in m.models if m.by in x.gain]
    if len(known) < 2:
        return ""
    lowered = [x for x in known if x.gain[m.by].sign < 0]
    lowers = f"{names(lowered)} lower{'s' * (len(lowered) == 1)}" if lowered else ""
    raised = sum(x.gain[m.by].sign > 0 for x in known)
    if not raised:
        return f"{lowers} it measurably." if lowers else ""
    others = f"; {lowers} it" if lowers else ""
    return f"{raised} of {len(known)} models measurably raise the {score_of(m.by)} over {origin(m)}{others}."


def _wins(m: Measurement, best: MeasuredModel) -> str:
    found = best.battles.get(m.by)
    if found is None or found.win_rate is None:
        return ""
    rate = found.win_rate
    ends = between(rate.low, rate.high, as_percent=True)
    return f"{best.said} wins {percent(rate.mean)}\u00a0{ends} of prompts against {origin(m)}, ties half."


def _replies(m: Measurement, best: MeasuredModel) -> str:
    """How long its replies are, and whether they are measurably less diverse than the start's."""
    start = m.origin
    if start is None or best.length is None or start.length is None:
        return ""
    said = (
        f"Replies of {best.said} have {best.length.mean:.1f} tokens, those of {origin(m)} "
        f"{start.length.mean:.1f}"
    )
    for figure, words in DIVERSITY.items():
        mine, theirs = best.diversity.get(figure), start.diversity.get(figure)
        if mine is None or theirs is None:
            continue
        small = abs(mine.mean - theirs.mean) < SMALL * abs(theirs.mean)
        if not small and apart(mine, theirs) == (1 if figure in ALIKE else -1):
            numbers = f"{plain(mine.mean)} against {plain(theirs.mean)}"
            return f"{said}; they are less diverse ({words.lower()} {numbers})."
    return f"{said}."


def _cost(m: Measurement) -> str:
    """What measuring cost; what training cost, the measurement does not know."""
    every = [*m.models, *([m.origin] if m.origin else [])]
    tokens = sum(x.cost.get("tokens_sampled", 0.0) for x in every)
    seconds = sum(x.cost.get("seconds", 0.0) for x in every)
    parts = [f"{count(tokens)} tokens sampled"] if tokens else []
    parts += [duration(seconds)] if seconds else []
    return f"Measuring took {listed(parts)}." if parts else ""


def names(models: Sequence[MeasuredModel]) -> str:
    """The models in a sentence: the first few by name, of the others how many."""
    said = [x.said for x in models]
    if len(said) <= MOST_NAMES:
        return listed(said)
    return listed([*said[: MOST_NAMES - 1], f"{len(said) - MOST_NAMES + 1} more"])
