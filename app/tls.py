"""The TLS settings of all outgoing HTTPS connections."""

import ssl
from functools import cache

import httpx


@cache
def ssl_context() -> ssl.SSLContext:
    """Trusts the certificates of SSL_CERT_FILE if it is set, else those of certifi. Loading them takes 20 ms."""
    return httpx.create_ssl_context()
