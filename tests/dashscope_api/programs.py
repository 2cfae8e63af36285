"""Programs that use the official SDK, in processes of their own. Only base URL and key are the gateway's."""

from pathlib import Path

from tests.processes import running_program

# Some calls of the SDK warn that they are a preview. In the processes of the tests, warnings are errors.
WITH_WARNINGS = "import warnings; warnings.resetwarnings()\n"
DOCUMENT = Path(__file__).parent.parent / "data" / "founding_document"


async def run_program(code: str, *, base_url: str, token: str, **variables: str) -> str:
    """Standard output of the Python program. Fails if the program does."""
    own = {"DASHSCOPE_API_KEY": token, "DASHSCOPE_HTTP_BASE_URL": base_url, "HOME": str(Path.cwd()), **variables}
    async with running_program(WITH_WARNINGS + code, **own) as program:
        assert await program.ended() == 0, program.stderr
    return program.stdout


def sample_program(name: str, base_url: str) -> str:
    """A program of the founding document. The base URL is changed in the line that sets it, if there is one."""
    text = (DOCUMENT / f"{name}.py.txt").read_text(encoding="utf-8")
    return text.replace(
        "base_http_api_url = 'https://dashscope.aliyuncs.com/api/v1'", f"base_http_api_url = '{base_url}'"
    )
