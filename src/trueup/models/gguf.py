"""GGUF files: read through transformers, every weight widened to the precision of the run. None is written.

transformers needs the package `gguf`, the extra `trueup[gguf]`; `settings.weights` looks for it, and at the
file, before anything heavy is imported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from trueup.settings.weights import is_gguf

NAME = "model.gguf"


@contextmanager
def place(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """A folder or id, and what else `from_pretrained` must be told of a GGUF file.

    The file is shown to transformers in a folder of its own: it would read a tokenizer that lies beside it.
    Its progress bar, which no setting of its own reaches, is not shown.
    """
    if not is_gguf(name):
        yield name, {}
        return
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        (Path(folder) / NAME).symlink_to(Path(name).resolve())
        yield folder, {"gguf_file": NAME}


def widened(model: Any, name: str) -> Any:
    """The model that was read from a GGUF file as an ordinary one, in place, which can be saved.

    Its weights are wide already; what goes is the note that they were not: transformers saves none with it.
    """
    for part in {model, model.base_model}:
        part.name_or_path = name
        for left in ("hf_quantizer", "quantization_method", "is_quantized"):
            vars(part).pop(left, None)
    for key in ("quantization_config", "_pre_quantization_dtype"):
        vars(model.config).pop(key, None)
    model.config._name_or_path = name
    return model
