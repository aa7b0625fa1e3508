"""Networks: loaded, called on packed batches, sampled from, saved."""

from __future__ import annotations

from trueup.models.forward import LanguageModel
from trueup.models.generate import Sampled, generate
from trueup.models.load import copy_of, from_modules, load, merge, save
from trueup.models.lora import LoraConfig

__all__ = [
    "LanguageModel",
    "LoraConfig",
    "Sampled",
    "copy_of",
    "from_modules",
    "generate",
    "load",
    "merge",
    "save",
]
