"""Client for DashScope's HTTP API. Knows accounts, tasks and files, but no jobs and no clients of the gateway."""
