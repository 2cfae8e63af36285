"""DashScope's HTTP API, and nothing above it."""
