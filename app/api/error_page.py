"""`/docs/errors`: one page with all codes of problems, of failed files and of waiting files.

Each row has an anchor. The anchor of a problem is its code, where `type` of the problem leads; the other anchors have
the prefix `file-` or `waiting-`, because some codes occur in several tables.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from html import escape

from app.api.error_reference import FILE_ERRORS, HARMLESS, PROBLEMS, WAITING
from app.api.problems import problem_type
from app.errors import GatewayError

_CODE_SPAN = re.compile(r"`([^`]+)`")
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --target: light-dark(#fff3bf, #574600) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .5rem 1rem .5rem 0; border-bottom: 1px solid var(--line) }
code { font-size: .9em; overflow-wrap: anywhere }
td:first-child code { white-space: nowrap; font-weight: 600 }
:target { background: #fff3bf; background: var(--target) }
@media (max-width: 45rem) {
  thead { display: none }
  tr { display: block; padding: .75rem 0; border-bottom: 1px solid var(--line) }
  td { display: inline; border: 0; padding: 0 .5rem 0 0 }
  td:nth-child(2):not(:last-child)::before { content: attr(data-title) " " }
  td:last-child { display: block }
}
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>asr-gateway errors</title>
<style>{style}</style>
</head>
<body>
<h1>Errors</h1>
<p>Programs decide by <code>code</code>, which is stable. Treat an unknown code by its <code>status</code> or
<code>retryable</code>. <a href="../docs">All calls</a></p>
<h2 id="calls">Errors of calls</h2>
<p>Each error is <code>application/problem+json</code> (RFC 9457). The lines of the gateway's log have the same
<code>request_id</code>.</p>
{problems}
<h2 id="files">Why a file failed</h2>
<p>The <code>code</code> in the <code>error</code> of a file. If <code>retryable</code> is true, the same file may
succeed unchanged, and <code>POST /v1/jobs/{{id}}/retry</code> sends it again.</p>
{files}
<p>These codes are in the log and the metrics, and never fail a file.</p>
{harmless}
<h2 id="waiting">Why files wait</h2>
<p>The <code>code</code> in the <code>waiting_reason</code> of a job. The files are submitted when the cause is
gone.</p>
{waiting}
</body>
</html>
"""


@cache
def render_error_page() -> str:
    """The page as HTML, for all errors whose modules are imported."""
    classes = {error.code: problem_type(error) for error in _family(GatewayError)}
    problems = [(code, str(classes[code].status), text) for code, text in PROBLEMS.items() if code in classes]
    files = [(code, retryable, text) for code, (retryable, text) in FILE_ERRORS.items()]
    return _PAGE.format(
        style=_STYLE,
        problems=_table("", ("code", "status", "cause, and what to do"), problems),
        files=_table("file-", ("code", "retryable", "cause, and what to do"), files),
        harmless=_table("file-", ("code", "meaning"), HARMLESS.items()),
        waiting=_table("waiting-", ("code", "cause, and what the operator can do"), WAITING.items()),
    )


def _table(prefix: str, titles: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of rows that begin with a code. On a phone a cell shows its title, because the head is hidden."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = []
    for code, *cells in rows:
        texts = (_CODE_SPAN.sub(r"<code>\1</code>", escape(cell)) for cell in cells)
        columns = "".join(
            f'<td data-title="{title}">{text}</td>' for title, text in zip(titles[1:], texts, strict=True)
        )
        lines.append(f'<tr id="{prefix}{code}"><td><code>{code}</code></td>{columns}</tr>')
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _family(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)
