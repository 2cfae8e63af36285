"""Benchmarks against the bundled sandbox and real PostgreSQL. They measure and print."""
