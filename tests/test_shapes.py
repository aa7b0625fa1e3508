"""The shape annotations are enforced while tests run; without this the annotations would be decoration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from trueup.engine.groups import Completion, Group
from trueup.engine.packing import pack


def test_a_tensor_of_the_wrong_shape_is_caught_at_the_call() -> None:
    completion = Completion(text="a", tokens=np.array([1, 2], np.int32))
    batch = pack([Group(prompt=(), prompt_tokens=np.array([3], np.int32), completions=(completion,))])
    assert batch.per_completion(torch.ones(2)).tolist() == [2.0]
    with pytest.raises(TypeCheckError):
        batch.per_completion(torch.ones(2, 2))
    with pytest.raises(TypeCheckError):
        batch.per_completion(torch.ones(2, dtype=torch.int64))
