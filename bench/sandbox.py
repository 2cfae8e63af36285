"""The sandbox as a process of its own, with the few options that benchmarks need: `python -m bench.sandbox --help`.

Its limits are the strict ones of `app.sandbox`: a benchmark may lift the limit of submits to get many tasks in
flight at once, and says so; queries, lists and cancels are never lifted.
"""

import argparse
import asyncio
import math

from app.sandbox import RunningSandbox, SandboxConfig, serve_sandbox


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the sandbox until SIGTERM.")
    parser.add_argument("--unlimited-submits", action="store_true", help="accept submits at any rate")
    lifted = parser.parse_args().unlimited_submits
    config = SandboxConfig(submit_rps=math.inf if lifted else None)
    asyncio.run(serve_sandbox(config, port=0, results_port=0, on_ready=_say_where))


def _say_where(running: RunningSandbox) -> None:
    print(f"sandbox at {running.api_origin}", flush=True)


if __name__ == "__main__":
    main()
