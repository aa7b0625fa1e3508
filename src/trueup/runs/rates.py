"""A run's learning rates: `auto` made a number before digests are taken, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from trueup.errors import TrueupError
from trueup.settings import config as configuration
from trueup.settings.stored import num_stored
from trueup.settings.weights import model_folder
from trueup.update.rates import AUTO, FAR, Row, rates_in, row_of, with_rates
from trueup.worlds import where_model

PAGE = "docs/learning-rates.md"


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A learning rate that was `auto`, and what it was taken from."""

    key: str
    rate: float
    row: Row | None
    "None for the one that a run of this folder began with."
    num_weights: int = 0
    adapter: bool = False

    @property
    def said(self) -> str:
        """The number and why: `5e-07: preferences, 6.7 B weights`."""
        if self.row is None:
            return f"{self.rate:g}: as this run began"
        held = "an adapter on " if self.adapter else ""
        return f"{self.rate:g}: {self.row.name}, {held}{in_words(self.num_weights)} weights"


def in_words(num: float) -> str:
    """`6.7 B`, `135 M`, `914 k`."""
    scale, letter = (1e9, "B") if num >= 1e9 else (1e6, "M") if num >= 1e6 else (1e3, "k")
    return f"{num / scale:.3g} {letter}"


def settle(
    module: ModuleType, config: Any, size: Callable[[str], int | None]
) -> tuple[Any, tuple[Settled, ...]]:
    """The settings with every `lr: auto` a number, and what was settled.

    `size` says how many weights a model has by its reference, None where no such model is there; then `auto`
    stays, and the run ends with what is wrong with its model. Raises E764 for a method that the table does
    not know, and what `size` raises.
    """
    found = [key for key, rate in rates_in(config).items() if rate == AUTO]
    num = size(config.model.path) if found else None
    if num is None:
        return config, ()
    adapter = config.model.lora is not None
    settled = []
    for key in found:
        row = _row(module, key)
        if row is None:
            raise TrueupError(
                "E764",
                f"no learning rate is known for {_name(module)}: its file says no FAMILY of the table's",
                where=key,
                remedy=f"give one, --{key} NUMBER, or write FAMILY; {PAGE} has the table",
            )
        rate = row.rate(num, adapter=adapter)
        settled.append(Settled(key=key, rate=rate, row=row, num_weights=num, adapter=adapter))
    return with_rates(config, {one.key: one.rate for one in settled}), tuple(settled)


def as_begun(config: Any, folder: Path) -> tuple[Any, tuple[Settled, ...]]:
    """The settings with every `lr: auto` what the run in a folder has, where there is one."""
    path = folder / "config.resolved.yaml"
    found = [key for key, rate in rates_in(config).items() if rate == AUTO]
    if not found or not path.is_file():
        return config, ()
    values = configuration.read_yaml(path).values
    settled = [
        Settled(key=key, rate=r, row=None) for key in found if isinstance(r := _at(values, key), float)
    ]
    return with_rates(config, {one.key: one.rate for one in settled}), tuple(settled)


def size_of(reference: str) -> int | None:
    """How many weights a model has; None where it is not there, as the run itself will say.

    Its files' headers say it; where they do not, its configuration. Raises E765 where neither does.
    """
    try:
        name = where_model(reference)
        stored = num_stored(Path(model_folder(name)))
        if stored is not None:
            return stored
        from trueup.models.size import num_weights  # torch loads here, and only where it has to

        return num_weights(name)
    except TrueupError as error:
        if error.code == "E765":
            raise
        return None


def rate_lines(module: ModuleType, config: Any, settled: tuple[Settled, ...]) -> list[str]:
    """What is said first of a run's learning rates, and of one that is far from the table's."""
    said = {one.key: f"{one.key} {one.said} (auto)" for one in settled}
    given = {key: rate for key, rate in rates_in(config).items() if key not in said and rate != AUTO}
    lines = [*said.values(), *(f"{key} {rate:g}" for key, rate in given.items())]
    try:
        num = size_of(config.model.path) if given else None
    except TrueupError:  # a number was given, and that is enough
        num = None
    return lines + [w for key in given if num is not None and (w := warning(module, config, key, num))]


def warning(module: ModuleType, config: Any, key: str, num_weights: int) -> str:
    """What is said of a learning rate that is far from the table's; "" of one that is not."""
    rate, row = rates_in(config).get(key), _row(module, key)
    if row is None or not isinstance(rate, float):
        return ""
    adapter = config.model.lora is not None
    usual = row.rate(num_weights, adapter=adapter)
    times = rate / usual
    if 1 / FAR <= times <= FAR:
        return ""
    far = f"{times:.0f} times" if times > 1 else f"1/{1 / times:.0f} of"
    held = "an adapter on " if adapter else ""
    return (
        f"warning: {key} {rate:g} is {far} what is usual for {row.name} on {held}{in_words(num_weights)} "
        f"weights ({usual:g}; {PAGE})"
    )


def _row(module: ModuleType, key: str) -> Row | None:
    family = str(vars(module).get("FAMILY", ""))
    return row_of(_name(module), family, critic=key.split(".")[-2:-1] == ["critic"])


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].removeprefix("trueup_method_")


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
