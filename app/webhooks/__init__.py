"""Webhooks: signed HTTP requests to clients' servers when a job is final."""
