"""The loss that teaches whether each step of a solution is right."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from trueup.engine.batch import Batch, Outputs
from trueup.engine.method import Entries, Terms


@dataclass(frozen=True, kw_only=True)
class StepwiseCrossEntropy:
    """The binary cross-entropy of every step, read in the state that has just read its last token.

    P(step is right) = σ(V(s_t)),  L_t = −p log σ(V(s_t)) − (1 − p) log σ(−V(s_t))

    t is the token after the step, and the label p the probability that the step is right, 1 or 0 where
    somebody said which. Only those tokens are supervised, so that a mean over tokens is one over steps.
    V = 0 gives log 2; ∂L/∂V = σ(V) − p. Reference: Lightman et al. 2023, section 2.6.
    """

    reads = frozenset({"step_label"})
    wants = {"reward": ("values",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Terms:
        """Entries [T]: one loss a step."""
        assert outputs.values is not None
        p, value = batch.columns["step_label"], outputs.values
        loss = -p * logsigmoid(value) - (1 - p) * logsigmoid(-value)
        said = value.detach()
        right = 0.5 + (p - 0.5) * said.sign()
        return Terms(
            {"stepwise": (1.0, Entries(loss, "token"))},
            {
                "step/accuracy": Entries(right, "token"),
                "step/probability": Entries(said.sigmoid(), "token"),
            },
        )
