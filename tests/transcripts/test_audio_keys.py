"""URLs of the same audio have the same key, whatever their signature."""

from uuid import UUID

import pytest

from app.transcripts.audio_keys import audio_key, without_signature

CLIENT = UUID(int=1)
PLAIN = "https://store.example/calls/4711.wav"

SIGNED = [
    "OSSAccessKeyId=LTAI&Expires=1&Signature=a%3D",
    "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=a%2Fb&x-oss-date=1&x-oss-expires=9&x-oss-signature=f",
    "AWSAccessKeyId=AKIA&Signature=a&Expires=1&x-amz-security-token=t",
    (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Date=1&X-Amz-Expires=9&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=ff"
    ),
    "GoogleAccessId=a%40b&Expires=1&Signature=c",
    (
        "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a&X-Goog-Date=1&X-Goog-Expires=9&X-Goog-SignedHeaders=host"
        "&X-Goog-Signature=ff"
    ),
    "sv=2024-11-04&st=1&se=2&sr=b&sp=r&sig=abc%3D",
    "sv=2024-11-04&ss=b&srt=o&sp=r&se=2&spr=https&sip=1.2.3.4&sig=abc",
    "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1%3B2&q-key-time=1%3B2&q-header-list=host&q-url-param-list=&q-signature=f",
    "AccessKeyId=a&Expires=1&Signature=b",
    "X-Tos-Algorithm=TOS4-HMAC-SHA256&X-Tos-Credential=a&X-Tos-Date=1&X-Tos-Expires=9&X-Tos-Signature=f",
    "e=1700000000&token=a:b",
    "auth_key=1700000000-0-0-abc",
    "Expires=1&Signature=a&Key-Pair-Id=K",
    "Policy=a&Signature=b&Key-Pair-Id=K&Hash-Algorithm=SHA256",
]


@pytest.mark.parametrize("query", SIGNED)
def test_signature_is_no_part_of_the_audio(query: str) -> None:
    assert without_signature(f"{PLAIN}?{query}") == PLAIN
    assert without_signature(f"{PLAIN}?part=2&{query}&versionId=7#t=1") == f"{PLAIN}?part=2&versionId=7"


@pytest.mark.parametrize(
    "query",
    [
        "id=4711",
        "Expires=1",
        "token=4711",
        "sig=short",
        "se=1&sp=2&sr=3",
        "Signature=a",
        "x-oss-process=audio/convert",
        "versionId=3",
        "a=1&a=2&b",
        "=",
    ],
)
def test_other_fields_select_the_audio(query: str) -> None:
    assert without_signature(f"{PLAIN}?{query}") == f"{PLAIN}?{query}"


def test_fields_that_change_the_contents_stay_beside_a_signature() -> None:
    signed = "OSSAccessKeyId=a&Expires=1&Signature=b&x-oss-process=audio%2Fconvert"
    assert without_signature(f"{PLAIN}?{signed}") == f"{PLAIN}?x-oss-process=audio%2Fconvert"


def test_key_depends_on_client_model_and_address() -> None:
    keys = {
        audio_key(CLIENT, "fun-asr", PLAIN),
        audio_key(CLIENT, "fun-asr", f"{PLAIN}?auth_key=1"),
        audio_key(CLIENT, "paraformer-v2", PLAIN),
        audio_key(UUID(int=2), "fun-asr", PLAIN),
        audio_key(CLIENT, "fun-asr", PLAIN.upper()),
    }
    assert len(keys) == 4
