"""`Prefer: wait=N` (RFC 7240): read from a request, and told in its answer when it was understood."""

import re

from fastapi import Request

# Commas inside quotes part nothing. A quote that does not end takes the rest: looking for its end anew from each would
# take seconds in 60 KB of them.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.ASCII | re.IGNORECASE | re.DOTALL)


def preferred_wait_s(request: Request, *, most_s: int) -> int:
    """0: there is none. A preference is no order: what cannot be understood is ignored, more than `most_s` is that."""
    preferences = _PREFERENCE.findall(",".join(request.headers.getlist("prefer")))
    preferred = next(filter(None, map(_WAIT.fullmatch, preferences)), None)
    if preferred is None:
        return 0
    wait_s = min(int(preferred[1]), most_s)
    request.scope["state"]["preference_applied"] = {"Preference-Applied": f"wait={wait_s}"}
    return wait_s


def preference_applied(request: Request) -> dict[str, str]:
    """What answers that honoured it say."""
    applied: dict[str, str] = request.scope["state"].get("preference_applied", {})
    return applied
