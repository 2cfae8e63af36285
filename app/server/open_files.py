"""The limit of open files, and the number of client connections that fits into it."""

import resource
from contextlib import suppress

# A connection is one open file and, while idle, 10 kB of memory.
MAX_CONNECTIONS = 10_000
# For the poller's calls (200 upstream, 16 results, 64 webhooks), 20 connections to PostgreSQL, logs and libraries.
RESERVED_FILES = 512


def raise_file_limit() -> None:
    """Raise the soft limit, often 1,024, as far as useful. The hard limit is usually much higher."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    useful = MAX_CONNECTIONS + RESERVED_FILES
    wanted = useful if hard == resource.RLIM_INFINITY else min(useful, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows fewer files than its hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """The number of client connections. At least half of a small limit of open files is left for them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, files - min(RESERVED_FILES, files // 2)))
