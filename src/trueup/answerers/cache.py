"""What a server answered, kept on disk, so that no question is paid for twice and no answer is lost."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger("trueup")


def default_folder() -> Path:
    """Where answers are kept unless told: $TRUEUP_CACHE, or trueup/answers in the user's cache folder."""
    named = os.environ.get("TRUEUP_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trueup" / "answers"


def digest_of(url: str, request: Mapping[str, Any]) -> str:
    """A SHA-256 over the address and the whole request: what is asked, of which model, sampled how."""
    text = json.dumps([url, request], ensure_ascii=False, sort_keys=True)
    return _sha256(text)


def _sha256(text: str) -> str:
    # A server may answer with half a surrogate pair, which UTF-8 does not have.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hash_of(answer: Any) -> str:
    return _sha256(json.dumps(answer, sort_keys=True))


@dataclass(frozen=True, slots=True)
class Cache:
    """One JSON file an answer, `ab/abcdef....json`, with its request and its SHA-256; None keeps nothing."""

    folder: Path | None

    def get(self, url: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The kept answer to this very request; None without one. A damaged file is reported, and is none."""
        if self.folder is None:
            return None
        path = self._path(url, request)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            asked, answer = (record["url"], record["request"]), record["answer"]
            if asked == (url, request) and isinstance(answer, dict) and record["sha256"] == _hash_of(answer):
                return answer
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        logger.warning("%s is damaged; the question is asked again", path)
        return None

    def put(self, url: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Nothing; keeps the answer. The file appears whole or not at all."""
        if self.folder is None:
            return
        path = self._path(url, request)
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {"url": url, "request": request, "answer": answer, "sha256": _hash_of(answer)}
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
        ) as file:
            file.write(json.dumps(told))
        os.replace(file.name, path)

    def _path(self, url: str, request: Mapping[str, Any]) -> Path:
        assert self.folder is not None
        digest = digest_of(url, request)
        return self.folder / digest[:2] / f"{digest}.json"
