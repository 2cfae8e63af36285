"""asr-gateway: a durable REST gateway to DashScope recorded-file speech recognition."""

# As in pyproject.toml.
__version__ = "0.2.0"
