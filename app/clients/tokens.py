"""Client tokens: how they are made and what is stored of them. Pure but for the random source."""

import hashlib
import hmac
import re
import secrets

PREFIX = "asr_"  # so that people, logs and secret scanners recognise one
NAME_PATTERN = "[A-Za-z0-9._-]{1,64}"


def new_token() -> str:
    """256 random bits: no salt or slow hash is needed to keep their hash safe."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str | bytes) -> bytes:
    """The token's SHA-256, which is what the database holds."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def cursor_key(digest: bytes) -> bytes:
    """What seals the cursors of whose token has this hash: the same in all replicas, and none of them keeps it."""
    return hmac.digest(digest, b"cursors", "sha256")


def is_client_name(name: str) -> bool:
    return re.fullmatch(NAME_PATTERN, name) is not None
