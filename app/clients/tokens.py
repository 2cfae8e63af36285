"""Client tokens: how they are made, and the values derived from them. Pure except for the random source."""

import hashlib
import hmac
import secrets

PREFIX = "asr_"  # lets people, logs and secret scanners recognise a token


def new_token() -> str:
    """A token of 256 random bits. Its plain hash is safe to store, without salt or a slow hash function."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str | bytes) -> bytes:
    """The token's SHA-256, the only form that the database holds."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def cursor_key(digest: bytes) -> bytes:
    """Key that signs this client's cursors.

    Derived from the token's hash, so every replica computes the same key and none stores it.
    """
    return hmac.digest(digest, b"cursors", "sha256")
