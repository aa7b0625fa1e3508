"""What a reader may be asked to change in conversations: names of roles, turns at the ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from trueup.data.problems import nearest
from trueup.data.turns import ROLES
from trueup.engine.groups import Role
from trueup.errors import TrueupError

Trim = Literal["none", "end", "both"]
_ANSWERED = ("messages", "conversations")
"Columns whose last turn is an answer."
_CONVERSATIONS = (*_ANSWERED, "prompt", "chosen", "rejected", "completion")


def check_roles(roles: Mapping[str, str] | None) -> dict[str, str]:
    """The map with its names in small letters. Raises TrueupError E220 for a role of ours that is none."""
    known = [str(role) for role in Role if role is not Role.TEXT]
    for theirs, ours in (roles or {}).items():
        if ours not in known:
            close = nearest(str(ours), known)
            remedy = f"did you mean --roles.{theirs} {close}?" if close else "name one of " + ", ".join(known)
            raise TrueupError("E220", f"there is no role {ours!r}", where="--roles", remedy=remedy)
    return {str(theirs).strip().lower(): str(ours) for theirs, ours in (roles or {}).items()}


def mended(row: dict[str, Any], roles: Mapping[str, str], trim: Trim) -> dict[str, Any]:
    """The row with roles under our names, and without the turns that `trim` leaves off.

    `end`: what stands behind the last answer of a conversation; `both`: also answers before the first
    question. A conversation without an answer, and one that is only a prompt, stay as they are.
    """
    if roles:
        row = {k: _renamed(v, roles) if k in _CONVERSATIONS else v for k, v in row.items()}
    if trim != "none" and "rejected" not in row:
        row = {k: _trimmed(v, trim) if k in _ANSWERED else v for k, v in row.items()}
    return row


def _renamed(value: Any, roles: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, roles) for item in value]
    if not isinstance(value, Mapping):
        return value
    key = _role_key(value)
    return (
        {**value, key: roles.get(str(value.get(key)).strip().lower(), value.get(key))}
        if key in value
        else value
    )


def _trimmed(value: Any, trim: Trim) -> Any:
    if not isinstance(value, list):
        return value
    roles = [_role(item) for item in value]
    if Role.ASSISTANT not in roles:
        return value
    end = len(roles) - roles[::-1].index(Role.ASSISTANT)
    kept = list(range(end))
    if trim == "both" and Role.USER in roles[:end]:
        first = roles.index(Role.USER)
        kept = [i for i in kept if i >= first or roles[i] is not Role.ASSISTANT]
    return [value[i] for i in kept]


def _role(item: Any) -> Role | None:
    return ROLES.get(str(item.get(_role_key(item))).strip().lower()) if isinstance(item, Mapping) else None


def _role_key(item: Mapping[str, Any]) -> str:
    return "from" if "from" in item and "role" not in item else "role"
