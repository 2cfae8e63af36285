"""Checks of the OpenAPI document against a live gateway: generated clients, and schemathesis.

Part of `make check`, not of `make test`: it needs Node, Java and the tools of requirements-check.lock. pytest collects
`check_*.py` only when they are named.
"""
