"""Tokens are random, recognisable, and stored as hashes."""

import hashlib

import pytest

from app.clients.tokens import hash_token, is_client_name, new_token


def test_tokens_differ_and_are_recognisable() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("asr_") and len(token) == 47 for token in tokens)


def test_the_hash_is_that_of_the_utf8_bytes() -> None:
    assert hash_token("pässword") == hash_token("pässword".encode()) == hashlib.sha256("pässword".encode()).digest()


@pytest.mark.parametrize(
    ("name", "valid"),
    [("a", True), ("A.b_c-9", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), ("a\n", False)],
)
def test_names_are_what_fits_into_logs_and_shells(name: str, *, valid: bool) -> None:
    assert is_client_name(name) is valid
