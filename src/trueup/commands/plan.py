"""The command that says what a run needs before it is begun: plan."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators

from trueup.commands.options import Json, Overrides, Positive, answer

Share = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1))]


def plan(
    recipe: str,
    /,
    *overrides: Overrides,
    gpu: str = "cpu",
    mfu: Share | None = None,
    rows: Positive | None = None,
    row_tokens: Positive | None = None,
    runs: Positive | None = None,
    as_json: Json = False,
) -> None:
    """Say what a run takes before it is begun: memory by part, tokens a second, hours, what to change first.

    The run's own code is counted on shapes alone: no weight is read, and a folder with a `config.json` is
    enough. What is assumed is called so. `trueup plan dpo --model.path my-model --gpu H100x8`.

    Parameters
    ----------
    recipe
        As for `trueup train`: a YAML file with `method:`, or a method's name.
    gpu
        A device, and how many: `H100`, `A100x8`; `cpu` is this machine, whose rate is measured in a second.
    mfu
        The share of the device's rate that matrix products reach; 0.4 otherwise.
    rows
        How many rows there are, in place of reading them.
    row_tokens
        How long a row is, prompt and completion; how long a prompt is, where the policy samples.
    runs
        So many runs alike, side by side, each on as few devices as it fits on.
    """
    from trueup.commands.stages import single_stage
    from trueup.planning.devices import parse
    from trueup.settings.config import parse_overrides

    parse(gpu)
    stage = single_stage(recipe, parse_overrides(list(overrides)))
    from trueup.planning.plan import Asked, plan_of
    from trueup.planning.speed import MFU
    from trueup.planning.work import Rows

    asked = Asked(gpu=gpu, mfu=MFU if mfu is None else mfu, rows=Rows(num=rows, tokens=row_tokens), runs=runs)
    made = plan_of(stage.module, stage.config, asked)
    answer(made.to_json(), str(made).splitlines(), as_json)
