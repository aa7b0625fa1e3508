"""Networks: loaded, called on packed batches, sampled from, saved."""

from __future__ import annotations

from trueup.models.forward import LanguageModel
from trueup.models.generate import Sampled, generate
from trueup.models.load import copy_of, from_modules, load, merge, save
from trueup.settings.blocks import LoraSettings

__all__ = [
    "LanguageModel",
    "LoraSettings",
    "Sampled",
    "copy_of",
    "from_modules",
    "generate",
    "load",
    "merge",
    "save",
]
