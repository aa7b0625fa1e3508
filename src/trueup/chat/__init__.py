"""Token ids from segments, so that no text can forge a role: `Chat.of(tokenizer)`, `encode`, `decode`."""

from __future__ import annotations

from trueup.chat.agree import Agreement, Difference
from trueup.chat.encoder import Chat
from trueup.chat.fit import FitReport, Fitted, fit, fit_all

__all__ = ["Agreement", "Chat", "Difference", "FitReport", "Fitted", "fit", "fit_all"]
