"""The lab: a small world whose truth is known, with its corpus, graders, labelers and data sets.

No name here needs torch; `build_tokenizer` loads the `tokenizers` package when called.
"""

from trueup.lab.datasets import comparisons, demonstrations, hhh_dialogues, prompts, texts
from trueup.lab.documents import Document, corpus, critique, ethics_question, judgement_request
from trueup.lab.evaluations import EVALUATIONS, eval_items
from trueup.lab.graders import CEILING, Grade, grade
from trueup.lab.labelers import LABELERS, Labeler, label
from trueup.lab.requests import CRITIQUE_REQUEST, REVISION_REQUEST
from trueup.lab.tokenizer import build_tokenizer, encode_document
from trueup.lab.world import VERSION

__all__ = [
    "CEILING",
    "CRITIQUE_REQUEST",
    "EVALUATIONS",
    "LABELERS",
    "REVISION_REQUEST",
    "VERSION",
    "Document",
    "Grade",
    "Labeler",
    "build_tokenizer",
    "comparisons",
    "corpus",
    "critique",
    "demonstrations",
    "encode_document",
    "ethics_question",
    "eval_items",
    "grade",
    "hhh_dialogues",
    "judgement_request",
    "label",
    "prompts",
    "texts",
]
