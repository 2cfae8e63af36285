"""A simulator of DashScope's recorded-file speech recognition, for demos, tests and benchmarks.

`python -m app sandbox` serves it. `create_sandbox()` returns two ASGI apps, and `running_sandbox()` serves two ports.
The API has both regions, `/beijing/api/v1` (key `sk-sandbox-beijing`) and `/singapore/api/v1` (`sk-sandbox-singapore`).
Result files have an origin of their own. Files are not fetched. The result is invented speech, always the same for the
same URL, except for the vendor's sample recordings, which give the documented results.

The query of a file's URL controls its outcome: `https://example.com/a.wav?sandbox=run:5,silent`. `/control` on the
API's origin injects faults and advances the clock. docs/sandbox.md has all of it.

Temporary tokens, hot-word lists and temporary uploads work. An `oss://` URL from elsewhere is accepted.
"""

from app.sandbox.app import Sandbox, SandboxTransport, create_sandbox
from app.sandbox.config import SandboxConfig
from app.sandbox.faults import Faults
from app.sandbox.server import CannotListen, RunningSandbox, running_sandbox, serve_sandbox

__all__ = [
    "CannotListen",
    "Faults",
    "RunningSandbox",
    "Sandbox",
    "SandboxConfig",
    "SandboxTransport",
    "create_sandbox",
    "running_sandbox",
    "serve_sandbox",
]
