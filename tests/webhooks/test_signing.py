"""Signatures and secrets of webhook messages."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.logs import redact
from app.webhooks.messages import signed_headers
from app.webhooks.signing_secrets import new_secret

BODY = '{"type":"job.succeeded","data":{"metadata":{"顾客":"王"}}}'


def test_headers_match_the_test_vector_of_standard_webhooks() -> None:
    headers = signed_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at=datetime.fromtimestamp(1614265330, UTC),
        body='{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_receiver_accepts_a_signature_of_any_secret() -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers([new, old], message_id="an-id", sent_at=datetime.now(UTC), body=BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers)["type"] == "job.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(BODY + " ", headers)


def test_receiver_refuses_a_replayed_attempt() -> None:
    secret, then = new_secret(), datetime.now(UTC) - timedelta(minutes=6)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, signed_headers([secret], message_id="an-id", sent_at=then, body=BODY))


def test_secrets_are_random_and_have_the_specified_size() -> None:
    secret = new_secret()
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert secret != new_secret()


def test_log_masks_secrets() -> None:
    secret = new_secret()
    assert secret not in redact(f"secret={secret} json={{'secret': '{secret}'}}")
