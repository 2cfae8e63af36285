"""The key of a transcript's audio: its client, its model, and its URL without the signature. Pure."""

import hashlib
from collections.abc import Iterator
from uuid import UUID

# The query fields of signed URLs, in lower case. The fields of a line are left out if the URL has its first field:
# `expires` or `sp` alone may select the audio. Fields that change the response stay, such as `x-oss-process` or
# `versionId`. docs/api.md lists the stores.
_SIGNATURES = tuple(
    tuple(fields.split())
    for fields in (
        # Alibaba OSS, versions 1 and 4
        "ossaccesskeyid signature expires security-token",
        (
            "x-oss-signature x-oss-signature-version x-oss-credential x-oss-date x-oss-expires x-oss-security-token"
            " x-oss-additional-headers"
        ),
        # Amazon S3 and compatible stores, versions 2 and 4
        "awsaccesskeyid signature expires x-amz-security-token",
        (
            "x-amz-signature x-amz-algorithm x-amz-credential x-amz-date x-amz-expires x-amz-signedheaders"
            " x-amz-security-token x-amz-content-sha256"
        ),
        # Google Cloud Storage, versions 2 and 4
        "googleaccessid signature expires",
        "x-goog-signature x-goog-algorithm x-goog-credential x-goog-date x-goog-expires x-goog-signedheaders",
        # Azure shared access signatures: of an account, of a service, and of a user
        "sig sv ss srt sp st se spr sip sr si sdd ses saoid suoid scid skoid sktid skt ske sks skv",
        # Tencent COS, Huawei OBS, Volcengine TOS, Qiniu
        "q-signature q-sign-algorithm q-ak q-sign-time q-key-time q-header-list q-url-param-list x-cos-security-token",
        "accesskeyid signature expires x-obs-security-token",
        (
            "x-tos-signature x-tos-algorithm x-tos-credential x-tos-date x-tos-expires x-tos-signedheaders"
            " x-tos-security-token"
        ),
        "token e",
        # Alibaba Cloud CDN and Amazon CloudFront
        "auth_key",
        "key-pair-id signature expires policy hash-algorithm",
    )
)
_FIRST_FIELDS = {fields[0]: frozenset(fields) for fields in _SIGNATURES}
# These first fields have common names: they belong to a signature only beside the field that is named here.
_COMPANIONS = {"sig": "sv", "token": "e"}


def audio_key(client_id: UUID, model: str, file_url: str) -> UUID:
    """The same id for the same audio of a client with the same model, whatever the signature of its URL."""
    identity = f"{client_id}\n{model}\n{without_signature(file_url)}"
    return UUID(bytes=hashlib.sha256(identity.encode()).digest()[:16])


def without_signature(url: str) -> str:
    """The URL without its fragment and without the query fields of a signature. The other fields keep their order."""
    address, _, query = url.partition("#")[0].partition("?")
    if not query:
        return address
    fields = query.split("&")
    signature = frozenset().union(*_signatures_in(fields))
    kept = "&".join(field for field in fields if _name(field) not in signature)
    return f"{address}?{kept}" if kept else address


def _signatures_in(fields: list[str]) -> Iterator[frozenset[str]]:
    names = {_name(field) for field in fields}
    for name in names & _FIRST_FIELDS.keys():
        if _COMPANIONS.get(name, name) in names:
            yield _FIRST_FIELDS[name]


def _name(field: str) -> str:
    return field.partition("=")[0].lower()
