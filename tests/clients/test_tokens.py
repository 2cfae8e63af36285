"""Tokens are random, recognisable, and stored as hashes."""

import hashlib

from app.clients.tokens import hash_token, new_token


def test_tokens_are_distinct_and_have_the_prefix() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("asr_") and len(token) == 47 for token in tokens)


def test_token_is_hashed_as_utf8() -> None:
    assert hash_token("pässword") == hash_token("pässword".encode()) == hashlib.sha256("pässword".encode()).digest()
