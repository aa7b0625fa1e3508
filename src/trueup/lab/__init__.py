"""The lab: a small world whose truth is known, with its corpus, graders, labelers and data sets.

No name here needs torch; `build_tokenizer` loads the `tokenizers` package when called.
"""

from trueup.lab.datasets import comparisons, demonstrations, hhh_dialogues, prompts, texts
from trueup.lab.documents import corpus, critique
from trueup.lab.evaluations import EVALUATIONS, eval_items
from trueup.lab.graders import CEILING, grade
from trueup.lab.labelers import Labeler, label
from trueup.lab.requests import CRITIQUE_REQUEST, REVISION_REQUEST
from trueup.lab.tokenizer import build_tokenizer, encode_document

__all__ = [
    "CEILING",
    "CRITIQUE_REQUEST",
    "EVALUATIONS",
    "REVISION_REQUEST",
    "Labeler",
    "build_tokenizer",
    "comparisons",
    "corpus",
    "critique",
    "demonstrations",
    "encode_document",
    "eval_items",
    "grade",
    "hhh_dialogues",
    "label",
    "prompts",
    "texts",
]
