"""Role-safe assembly of token ids from segments: `Chat.of(tokenizer)`, then `prompt_ids`, `encode`, `decode`."""

from __future__ import annotations

from trueup.chat.encoder import Chat

__all__ = ["Chat"]
