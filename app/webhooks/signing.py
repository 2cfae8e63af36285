"""Signatures as Standard Webhooks 1.0 defines them: HMAC-SHA256 over id, timestamp and body. Pure but for the random.

A secret has to be read again to sign with it, so it is stored as it is, not hashed. It proves to a client that an
event is ours and opens nothing here; the log redacts it by its shape.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 32  # the specification asks for 24 to 64


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(keys: Sequence[str], *, message_id: str, sent_at: datetime, body: str) -> dict[str, str]:
    """The three headers of one try. Several secrets make several signatures: receivers accept any one."""
    timestamp = str(int(sent_at.timestamp()))
    content = f"{message_id}.{timestamp}.{body}".encode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{_signature(key, content)}" for key in keys),
    }


def _signature(key: str, content: bytes) -> str:
    raw = base64.b64decode(key.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(raw, content, hashlib.sha256).digest()).decode()
