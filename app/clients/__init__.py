"""Clients of the gateway: their tokens, authentication and rate limits."""
