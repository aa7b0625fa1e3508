"""The command that looks at what another stack trains on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from trueup.commands.early import check_file, check_models
from trueup.commands.options import AnyTemplate, Json, Positive, answer, says

EXIT_FOUND = 1


def doctor(
    dump: Path,
    /,
    *,
    model: str | None = None,
    template: AnyTemplate = None,
    loss_on: Literal["answers", "everything"] = "answers",
    precision: Literal["bfloat16", "float32"] = "bfloat16",
    num: Positive = 256,
    device: Annotated[str, says("auto, cpu, cuda or mps.")] = "auto",
    as_json: Json = False,
) -> None:
    """Say what is wrong with the rows that any trainer trains on, from a dump of them.

    The dump is JSON lines: `input_ids`, `loss_mask` (or `labels`) and what else there is: `sampler_logprobs`,
    `trainer_logprobs`, `temperature`, `advantages`, `reward`, `group`, `text`, `messages`. docs/doctor.md has
    every key, and recorders of a few lines for TRL, verl, OpenRLHF and vLLM.

    Without `--model` only what the rows say of themselves is looked at: masks, labels, repeated and skipped
    rows, advantages. With the weights that wrote the dump also ids against text and template, the ends of
    turns, and log-probs: of another temperature, of a truncated support, of older weights, or within
    rounding.

    Exits with 0 where nothing is found, with 1 where something is.

    Parameters
    ----------
    dump
        A file of JSON lines, one row a line.
    model
        The weights that wrote the dump: a model's folder, id or GGUF file, or the folder of a run.
    loss_on
        `everything` where prompts are meant to be in the loss, as in language modelling.
    precision
        What log-probs may have been computed in: gaps that its rounding explains are no finding.
    num
        Rows whose tokens the model scores at most, evenly spread over the dump.
    """
    check_file(dump)
    if model is not None:
        check_models(model)
    from trueup.doctor.dump import read_dump

    rows = read_dump(dump)
    opened = None
    if model is not None:
        from trueup.doctor.scan import open_model
        from trueup.settings.weights import check_writes, model_folder

        check_writes(model_folder(model))
        opened = open_model(model_folder(model), template=template, precision=precision, device=device)
    from trueup.doctor.examine import examine
    from trueup.doctor.printed import printed

    found = examine(rows, opened, loss_on=loss_on, num=num)
    answer(found.to_json(), printed(found, dump=dump.name, model=model), as_json)
    if found.findings:
        sys.exit(EXIT_FOUND)
