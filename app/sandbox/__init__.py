"""A stand-in for DashScope: demo, tests, benchmarks and users' own integration tests."""
