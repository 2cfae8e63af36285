"""Checks and percent-encodes the URLs that clients send: audio files and webhooks. Pure."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import quote

import idna

MAX_URL_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class UrlKind:
    """The schemes that are accepted for one use, with an example for error messages."""

    schemes: tuple[str, ...]
    example: str
    # Hints for schemes that clients try in vain.
    hints: tuple[tuple[str, str], ...] = ()
    # A fragment is never sent to a server. In the URL of a file it is a name that was not encoded.
    has_fragment: bool = True


FILE_URL = UrlKind(
    ("http", "https", "oss", "upload"),
    "https://example.com/audio.wav",
    (
        ("file", "DashScope cannot read local files: upload the file or serve it over HTTP"),
        ("data", "audio data cannot be sent in the URL"),
    ),
    has_fragment=False,
)
WEBHOOK_URL = UrlKind(("http", "https"), "https://example.com/hooks/asr")

_MAX_HOST_LENGTH = 253
_PARTS = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(//)?([^/?#]*)(.*)", re.DOTALL)
_ADDRESS = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", re.DOTALL)
# C0, DEL and C1, and lone surrogates, which have no UTF-8 encoding.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HOST = re.compile(r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?")
# A `%` that starts no escape is encoded.
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
# Characters beside letters, digits and `-._~` that stay. Brackets and the like may be part of a signature.
_KEPT = "!#$%&'()*+,/:;=?@[]"
# Most URLs need no encoding. This check takes a tenth of the time of splitting a URL into its parts.
ENCODED_URL = re.compile(
    r"https?://(?=[^/?#]{1,253}(?:[/?#]|\Z))(?:[A-Za-z0-9_-]++\.)*+(?:[A-Za-z0-9_-]++)?+(?<!//)"
    r"(?:[/?#](?:[!#$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]++|%[0-9A-Fa-f]{2})*+)?"
)
# Ambiguous in front of the host: parsers disagree about the last `@` and about the start of an IPv6 address.
_MISLEADING = str.maketrans({"@": "%40", "[": "%5B", "]": "%5D"})


def encode_url(url: str, kind: UrlKind = FILE_URL) -> str:
    """The URL in ASCII: other characters are percent-encoded as UTF-8, a Unicode host becomes punycode.

    Existing escapes stay byte for byte, so encoding is idempotent. The limit of 4,096 characters applies to the given
    and to the encoded URL. Raises ValueError with a message that continues the name of the field.
    """
    if len(url) <= MAX_URL_LENGTH and ENCODED_URL.fullmatch(url) and (kind.has_fragment or "#" not in url):
        return url
    return encode_parts(url, kind)


def encode_parts(url: str, kind: UrlKind) -> str:
    _check_text(url)
    scheme, slashes, authority, rest = _PARTS.fullmatch(url).groups()  # type: ignore[union-attr] # matches any text
    if not scheme or scheme.lower() not in kind.schemes or not slashes:
        raise ValueError(_scheme_error(scheme, kind))
    if "#" in rest and not kind.has_fragment:
        raise ValueError("contains #, and what follows it would not be sent; write %23 if it is part of the name")
    encoded = f"{scheme.lower()}://{_encode_authority(authority, kind)}{_encode(rest)}"
    if len(encoded) > MAX_URL_LENGTH:
        raise ValueError(f"is {len(encoded):,} characters long once percent-encoded; at most {MAX_URL_LENGTH:,}")
    return encoded


def find_control_character(text: str) -> str | None:
    """The first control character or lone surrogate, as `U+0000`. JSON columns and URLs cannot contain these."""
    if text.isprintable():  # a third of the time of the search
        return None
    found = _CONTROL.search(text)
    return None if found is None else f"U+{ord(found[0]):04X}"


def _check_text(url: str) -> None:
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"is {len(url):,} characters long; at most {MAX_URL_LENGTH:,}")
    if control := find_control_character(url):
        raise ValueError(f"contains the control character {control}; remove it")
    if url != url.strip():
        raise ValueError("starts or ends with white space; remove it, or write it as %20 if it is part of the name")


def _scheme_error(scheme: str | None, kind: UrlKind) -> str:
    *others, last = (f"{name}://" for name in kind.schemes)
    needs = f"needs a URL that starts with {', '.join(others)} or {last}"
    reason = dict(kind.hints).get((scheme or "").lower())
    return f"{needs}; {reason}" if reason else f"{needs}, such as {kind.example}"


def _encode_authority(authority: str, kind: UrlKind) -> str:
    user, at, address = authority.rpartition("@")
    host, port = _ADDRESS.fullmatch(address).groups()  # type: ignore[union-attr] # matches any text
    if not host:
        raise ValueError(f"has no host; needs one after ://, such as {kind.example}")
    if port and not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError("has an invalid port; needs a number from 0 to 65535")
    colon = "" if port is None else f":{port}"
    return f"{_encode(user).translate(_MISLEADING)}{at}{_encode_host(host)}{colon}"


def _encode_host(host: str) -> str:
    if host.startswith("["):
        return _checked_ipv6(host)
    if len(host) <= _MAX_HOST_LENGTH and not host.isascii():
        host = _punycode(host)
    if len(host) > _MAX_HOST_LENGTH or not _HOST.fullmatch(host):
        raise ValueError("has an invalid host; a host consists of letters, digits, hyphens and dots")
    return host


def _checked_ipv6(bracketed: str) -> str:
    address = bracketed[1:-1]
    try:
        IPv6Address(address if "%" not in address else "")
    except ValueError:
        raise ValueError("has an invalid IPv6 address in brackets") from None
    return bracketed


# Cached: the files of a job are mostly on one host, and IDNA takes 0.5 ms for a long one.
@lru_cache(maxsize=256)
def _punycode(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise ValueError("has a host that is not a valid internationalised domain name") from error


def _encode(text: str) -> str:
    # One call for the whole text: one for each run of characters took 9 s for 10,000 URLs of 1,600 characters.
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_KEPT)
