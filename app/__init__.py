"""asr-gateway: a durable REST gateway to DashScope recorded-file speech recognition."""
