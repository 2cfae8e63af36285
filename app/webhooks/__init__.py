"""Telling clients' servers what became of their jobs."""
