"""The sandbox as a separate process: `python -m bench.sandbox --help`.

It has the limits of `app.sandbox`. A benchmark may lift the limit of submits to get many tasks in flight quickly; the
limits of queries, lists and cancels always apply.
"""

import argparse
import asyncio
import math

from app.sandbox import RunningSandbox, SandboxConfig, serve_sandbox
from bench.upstream import accounts


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the sandbox until SIGTERM.")
    parser.add_argument("--unlimited-submits", action="store_true", help="accept submits at any rate")
    parser.add_argument("--accounts", type=int, default=1, help="accounts, each with limits of its own")
    arguments = parser.parse_args()
    keys = {"beijing": {key: name for name, key in accounts(arguments.accounts)}, "singapore": {}}
    config = SandboxConfig(keys=keys, submit_rps=math.inf if arguments.unlimited_submits else None)
    asyncio.run(serve_sandbox(config, port=0, results_port=0, on_ready=_print_address))


def _print_address(running: RunningSandbox) -> None:
    print(f"sandbox at {running.api_origin}", flush=True)


if __name__ == "__main__":
    main()
