"""Signatures, judged by a verifier that is not ours."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.logs import redact
from app.webhooks.signing import new_secret, signed_headers

BODY = '{"type":"job.succeeded","data":{"metadata":{"顾客":"王"}}}'


def test_the_official_verifier_accepts_what_is_signed_with_any_of_the_secrets() -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers([new, old], message_id="an-id", sent_at=datetime.now(UTC), body=BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers)["type"] == "job.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(BODY + " ", headers)


def test_an_old_try_cannot_be_replayed() -> None:
    secret, then = new_secret(), datetime.now(UTC) - timedelta(minutes=6)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, signed_headers([secret], message_id="an-id", sent_at=then, body=BODY))


def test_secrets_have_the_size_that_the_specification_asks_for_and_never_reach_the_log() -> None:
    secret = new_secret()
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert secret != new_secret()
    assert secret not in redact(f"secret={secret} json={{'secret': '{secret}'}}")
