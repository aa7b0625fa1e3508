"""A measurement in sentences: who is best, on what that rests, and what the numbers cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trueup.behaviour.phrases import error
from trueup.errors import counted
from trueup.evals.printed import estimate
from trueup.reports.numbers import listed

FEW = 30
"Fewer prompts than this leave every interval wide."
Row = Mapping[str, Any]


def headline(said: Row) -> list[str]:
    """What a reader should know first: the winner with its interval, and who trained what."""
    by, rows = said["by"], said["models"]
    ranked = [row for row in rows if by in row["scores"]]
    if not ranked:
        return [
            "No judge scored the answers: the numbers say how far the models moved, not how good they are."
        ]
    best = max(ranked, key=lambda row: row["scores"][by]["mean"])
    return [_winner(best, ranked, by), *_proxies(said, best, by), *_moved(best, said)]


def _winner(best: Row, ranked: Sequence[Row], by: str) -> str:
    score = estimate(best["scores"][by])
    others = sorted(filter(_behind, ranked), key=lambda row: row["behind_best"]["mean"])
    if not others:
        return f"{best['name']} scores {score} by {by}."
    tied = [row["name"] for row in others if not _above_zero(row["behind_best"])]
    nearest = others[0]
    gap = estimate(nearest["behind_best"], "+.3f")
    if not tied:
        return f"{best['name']} is best by {by}: {score}, {gap} over {nearest['name']}."
    return (
        f"No model is told apart as best by {by}: {best['name']} has the highest mean, {score}, "
        f"and its gap to {listed(tied)} may be zero ({gap} to {nearest['name']})."
    )


def _behind(row: Row) -> bool:
    """Whether it is known how far a model lies behind the best: not where no prompt was judged of both."""
    return row["behind_best"] is not None


def _proxies(said: Row, best: Row, by: str) -> Iterator[str]:
    """Where the judge that orders the models has trained one of them."""
    trained = {name: judges for name, judges in said["trained_on"].items() if by in judges}
    if not trained:
        return
    yield f"{by} also trained {listed(list(trained))}: there it is a proxy, and its score flatters."
    free = [j for j in said["judges"] if not any(j in known for known in said["trained_on"].values())]
    for judge in free[:1]:
        gain = best["gain"].get(judge)
        if gain is not None:
            yield f"By {judge}, which trained none of them, {best['name']} gains {estimate(gain, '+.3f')}."
    if not free:
        yield "No judge here is a referee: each has trained one of the models."


def _moved(best: Row, said: Row) -> Iterator[str]:
    """The best model's distance from the start and what it lost on exams."""
    if said["start"] in (None, best["name"]):
        return
    if best["kl"] is not None:
        yield f"It lies {estimate(best['kl'], '.2f')} nats from {said['start']}."
    lost = [f"{name} {estimate(e, '+.3f')}" for name, e in best["tax"].items() if _below_zero(e)]
    if lost:
        yield f"It lost on {counted(len(lost), 'exam')}: {'; '.join(lost)}."


def limits(said: Row) -> list[str]:
    """What the numbers cannot say because of how was asked; the page says the same of its own accord."""
    rows, found = said["models"], []
    if said["start"] is None:
        found.append("No start was named, so there is no gain, KL, perplexity or tax: --against START.")
    elif any(row["kl"] is None for row in rows):
        apart = [row["name"] for row in rows if row["kl"] is None]
        found.append(f"No KL to {said['start']} is defined of {listed(apart)}: the tokenizers differ.")
    if said["truth"] is None and said["by"] is not None:
        found.append(f"No judge is believed, so {said['by']} only orders the models: `truth: NAME`, --truth.")
    if said["num_prompts"] < FEW:
        found.append(f"{counted(said['num_prompts'], 'prompt')}: every interval is wide, and rests on few.")
    cut = [row["name"] for row in rows if row["ended"]["mean"] < 0.5]
    if cut:
        found.append(
            f"Most answers of {listed(cut)} were cut at {counted(said['max_new_tokens'], 'token')}: "
            "--max-new-tokens sets the longest."
        )
    return found


def notes(said: Row, *, one_file: bool) -> list[str]:
    """What else a reader should know; `one_file` where one file of prompts serves every split."""
    rows, found = said["models"], []
    plain = sum(shown["prompt"][0]["role"] == "text" for shown in said["samples"])
    if plain:
        found.append(
            "Prompts that are a text alone are continued, without a chat template; "
            '`{"prompt": [{"role": "user", "content": ...}]}` asks them as a user does.'
        )
    if one_file:
        found.append("One file of prompts serves every split: models that were trained on it are flattered.")
    for row in rows:
        for judge, unread in row["unread"].items():
            found.append(f"{judge} gave no verdict on {counted(unread, 'prompt')} of {row['name']}.")
    if said["comparing"]:
        found.append(
            f"The score by {listed(said['comparing'])} is how often a model's answer is preferred to that of "
            f"{said['start']}, in both orders, whose own score is ½ for that reason."
        )
    if any(row["curve"] for row in rows):
        found.append(
            f"The best of n is chosen by {said['chosen_by']}; of others the curves say what that choice is "
            "worth."
        )
    agreement = 100 * error()["agreement"]
    found.append(
        f"Refusals are told by English phrases, which agree with people on {agreement:.0f} % of answers."
    )
    return found


def _above_zero(row: Row) -> bool:
    interval = row["ci95"]
    return interval is not None and interval[0] > 0


def _below_zero(row: Row) -> bool:
    interval = row["ci95"]
    return interval is not None and interval[1] < 0
