"""How many files this process may have open, and how many of them connections of clients may take."""

import resource
from contextlib import suppress

# Each connection is a file and, idle, some 10 kB of memory.
MAX_CONNECTIONS = 10_000
# For the poller's calls (200 upstream, 16 results, 64 webhooks), 20 connections to PostgreSQL, and what is open anyway.
RESERVED_FILES = 512


def raise_file_limit() -> None:
    """Allow this process as many open files as it can use. The soft limit is often 1,024, the hard one far higher."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    useful = MAX_CONNECTIONS + RESERVED_FILES
    wanted = useful if hard == resource.RLIM_INFINITY else min(useful, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows fewer than its hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """How many connections leave the rest of the process its files: at least half of them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, files - min(RESERVED_FILES, files // 2)))
