"""Network failures: a call counts as not sent only if the request cannot have reached upstream."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import httpx
import pytest

from app.dashscope.client import Accepted, DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.transport import ON_DEPARTURE, http_client
from app.dashscope.wire import TaskSnapshot
from app.settings import Account
from tests.dashscope.hostile import (
    HostileServer,
    Script,
    drip,
    drop,
    flood,
    raw,
    reset,
    response,
    silence,
)
from tests.dashscope.samples import sample
from tests.dashscope.test_client import OK, submit

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SUBMITTED = sample("submit_response")


def is_transient(outcome: object) -> bool:
    return isinstance(outcome, Failure) and outcome.kind is FailureKind.TRANSIENT and outcome.upstream_code is None


async def not_sent(client: DashScope) -> bool:
    outcomes = [await submit(client), await client.query("a"), await client.list_tasks()]
    return all(map(is_transient, outcomes))


async def test_refused_connection_is_not_sent(http: httpx.AsyncClient, account: Account) -> None:
    with socket.socket() as bound:  # bound but not listening, so that the port stays closed
        bound.bind(("127.0.0.1", 0))
        client = DashScope(account, f"http://127.0.0.1:{bound.getsockname()[1]}/api/v1", http)

        assert await not_sent(client)


async def test_unknown_host_is_not_sent(http: httpx.AsyncClient, account: Account) -> None:
    # Too long for a host name, so no name server is asked.
    client = DashScope(account, f"http://{'.'.join(['a' * 60] * 5)}/api/v1", http)

    assert await not_sent(client)


@pytest.fixture
async def full_port() -> AsyncIterator[int]:
    """A port whose backlog is full, so that the next connection is never accepted."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
        attempts = [asyncio.create_task(loop.sock_connect(each, listener.getsockname())) for each in waiting]
        await asyncio.wait(attempts, timeout=0.1)
        yield listener.getsockname()[1]
        for attempt, each in zip(attempts, waiting, strict=True):
            attempt.cancel()
            each.close()
        await asyncio.gather(*attempts, return_exceptions=True)


async def test_connection_that_times_out_is_not_sent(full_port: int, account: Account) -> None:
    async with http_client(connect_timeout_s=0.05) as http:
        client = DashScope(account, f"http://127.0.0.1:{full_port}/api/v1", http)

        assert await not_sent(client)


async def test_call_without_a_free_connection_is_not_sent(server: HostileServer, account: Account) -> None:
    server.play(silence)
    async with http_client(connect_timeout_s=0.05, max_connections=1) as http:
        client = DashScope(account, server.base_url, http)
        busy = asyncio.create_task(client.query("a"))
        await server.heard.wait()

        assert await not_sent(client)

        busy.cancel()
        assert len(server.received) == 1


async def respond_without_tls(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("handler", [respond_without_tls, hang_up])
async def test_failed_tls_handshake_is_not_sent(handler: Handler, http: httpx.AsyncClient, account: Account) -> None:
    async with await asyncio.start_server(handler, "127.0.0.1", 0) as listener:
        client = DashScope(account, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api/v1", http)

        assert await not_sent(client)


BREAKS = {
    "closed after the request": drop,
    "reset after the request": reset,
    "closed in the head": raw(b"HTTP/1.1 200 O"),
    "closed in the body": response(200, SUBMITTED, length=len(SUBMITTED) + 1, keep=False),
    "complete as JSON, but not as HTTP": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n7a\r\n" + SUBMITTED),
    "not HTTP": raw(b"\x00\x01\x02\r\n\r\n"),
    "no status": raw(b"HTTP/1.1 abc\r\n\r\n"),
    "endless header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}"),
    "bad header": raw(b"HTTP/1.1 200 OK\r\nX-\xff: 1\r\n\r\n{}"),
    "two lengths": raw(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "bad chunk": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "not compressed": response(200, SUBMITTED, "Content-Encoding: gzip"),
    "encoding that was not requested": response(200, SUBMITTED, "Content-Encoding: zstd"),
    "several encodings": response(200, SUBMITTED, "Content-Encoding: gzip, gzip, gzip"),
    "switched protocols": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}"),
}


@pytest.mark.parametrize("script", BREAKS.values(), ids=BREAKS)
async def test_broken_response_makes_the_outcome_of_a_submit_unknown_and_a_query_repeatable(
    client: DashScope, server: HostileServer, script: Script
) -> None:
    server.play(script)

    assert isinstance(await submit(client), OutcomeUnknown)
    assert is_transient(await client.query("a"))
    # The transport repeats nothing: the budget counted two calls.
    assert len(server.received) == 2


async def test_reason_phrase_that_is_not_text_is_ignored(client: DashScope, server: HostileServer) -> None:
    server.play(raw(b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: %d\r\n\r\n" % len(SUBMITTED) + SUBMITTED, keep=True))

    assert isinstance(await submit(client), Accepted)


SLOW = {
    "never": silence,
    "endless interim responses": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless head": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "endless body": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "slow body": drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_slow_response_ends_at_the_deadline(
    server: HostileServer, http: httpx.AsyncClient, account: Account, script: Script
) -> None:
    server.play(script)
    client = DashScope(account, server.base_url, http, deadline_s=0.1)

    assert isinstance(await submit(client), OutcomeUnknown)
    assert is_transient(await client.query("a"))


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_large_request_that_the_server_does_not_read_ends_at_the_deadline(
    http: httpx.AsyncClient, account: Account
) -> None:
    over = asyncio.Event()

    async def respond_at_once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 9\r\n\r\n")
        await over.wait()
        writer.transport.abort()

    async with await asyncio.start_server(respond_at_once, "127.0.0.1", 0) as listener:
        base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api/v1"
        client = DashScope(account, base_url, http, deadline_s=0.1)
        async with asyncio.timeout(10):
            assert isinstance(await submit(client, *["https://h/" + "x" * 100_000] * 100), OutcomeUnknown)
        over.set()


async def test_endless_response_ends_at_the_size_limit(
    server: HostileServer, http: httpx.AsyncClient, account: Account
) -> None:
    server.play(flood(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"))
    client = DashScope(account, server.base_url, http, max_response_bytes=100_000)

    assert isinstance(await submit(client), OutcomeUnknown)
    assert is_transient(await client.query("a"))


async def test_response_of_the_maximum_size_is_read(
    server: HostileServer, http: httpx.AsyncClient, account: Account
) -> None:
    server.play(OK)

    assert isinstance(
        await submit(DashScope(account, server.base_url, http, max_response_bytes=len(SUBMITTED))), Accepted
    )
    assert isinstance(
        await submit(DashScope(account, server.base_url, http, max_response_bytes=len(SUBMITTED) - 1)), OutcomeUnknown
    )


async def test_outcome_is_unknown_if_the_server_closes_a_reused_connection(
    client: DashScope, server: HostileServer
) -> None:
    async def respond_and_close_at_the_next_request(writer: asyncio.StreamWriter) -> bool:
        await OK(writer)
        return True

    # The second request on the connection gets no response, as from a server whose keep-alive has just expired.
    server.play(respond_and_close_at_the_next_request, drop)

    assert isinstance(await submit(client), Accepted)
    assert isinstance(await submit(client), OutcomeUnknown)
    assert (server.connections, len(server.received)) == (1, 2)


async def test_connection_that_the_server_closes_is_not_reused(client: DashScope, server: HostileServer) -> None:
    server.play(response(200, SUBMITTED, "Connection: close", keep=False))

    assert [type(await submit(client)) for _ in range(3)] == [Accepted] * 3
    assert server.connections == 3


async def test_each_call_tells_when_it_departs(client: DashScope, server: HostileServer) -> None:
    """Also on a connection that is reused."""
    server.play(response(200, sample("query_running")))
    departed: list[int] = []
    for number in range(2):
        token = ON_DEPARTURE.set(partial(departed.append, number))
        await client.query("task")
        ON_DEPARTURE.reset(token)
    await client.query("task")
    assert departed == [0, 1]


async def test_connections_are_reused(client: DashScope, server: HostileServer) -> None:
    server.play(response(200, sample("query_running")))

    assert [type(await client.query("a")) for _ in range(3)] == [TaskSnapshot] * 3
    assert server.connections == 1


async def test_broken_responses_free_their_connections(server: HostileServer, account: Account) -> None:
    server.play(*BREAKS.values(), response(200, sample("query_running")))
    async with http_client(connect_timeout_s=1, max_connections=1) as http:
        client = DashScope(account, server.base_url, http)

        outcomes = [await client.query("a") for _ in range(len(BREAKS) + 1)]

    assert isinstance(outcomes[-1], TaskSnapshot)


async def test_canceled_call_frees_its_connection(server: HostileServer, account: Account) -> None:
    server.play(silence, response(200, sample("query_running")))
    async with http_client(connect_timeout_s=1, max_connections=1) as http:
        client = DashScope(account, server.base_url, http)
        call = asyncio.create_task(client.query("a"))
        await server.heard.wait()

        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call
        assert isinstance(await client.query("a"), TaskSnapshot)
