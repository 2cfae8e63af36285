"""What becomes of a call when the network fails: only a request that surely never left counts as not sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest

from app.dashscope.client import Accepted, DashScope, OutcomeUnknown, http_client
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.wire import TaskSnapshot
from app.settings import Account
from tests.dashscope.hostile import (
    HostileServer,
    Script,
    answer,
    drip,
    drop,
    flood,
    raw,
    reset,
    silence,
)
from tests.dashscope.samples import sample
from tests.dashscope.test_client import OK, submit

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SUBMITTED = sample("submit_response")


def later(outcome: object) -> bool:
    return isinstance(outcome, Failure) and outcome.kind is FailureKind.TRANSIENT and outcome.upstream_code is None


async def not_sent(client: DashScope) -> bool:
    return later(await submit(client)) and later(await client.query("a")) and later(await client.list_tasks())


async def test_a_refused_connection_means_that_there_is_no_task(http: httpx.AsyncClient, account: Account) -> None:
    with socket.socket() as bound:  # and not listening: nobody else takes the port meanwhile
        bound.bind(("127.0.0.1", 0))
        client = DashScope(account, f"http://127.0.0.1:{bound.getsockname()[1]}/api/v1", http)

        assert await not_sent(client)


async def test_a_name_that_nobody_has_means_that_there_is_no_task(http: httpx.AsyncClient, account: Account) -> None:
    # Longer than names may be: it is refused without asking a server.
    client = DashScope(account, f"http://{'.'.join(['a' * 60] * 5)}/api/v1", http)

    assert await not_sent(client)


@pytest.fixture
async def full_port() -> AsyncIterator[int]:
    """A port whose queue of connections is full: the next one to come waits for ever."""
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


async def test_a_connection_that_is_not_made_in_time_means_that_there_is_no_task(
    full_port: int, account: Account
) -> None:
    async with http_client(connect_timeout_s=0.05) as http:
        client = DashScope(account, f"http://127.0.0.1:{full_port}/api/v1", http)

        assert await not_sent(client)


async def test_a_connection_that_never_comes_free_means_that_there_is_no_task(
    server: HostileServer, account: Account
) -> None:
    server.play(silence)
    async with http_client(connect_timeout_s=0.05, max_connections=1) as http:
        client = DashScope(account, server.base_url, http)
        busy = asyncio.create_task(client.query("a"))
        await server.heard.wait()

        assert await not_sent(client)

        busy.cancel()
        assert len(server.received) == 1


async def speak_no_tls(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


Welcome = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("welcome", [speak_no_tls, hang_up])
async def test_a_failed_tls_handshake_means_that_there_is_no_task(
    welcome: Welcome, http: httpx.AsyncClient, account: Account
) -> None:
    async with await asyncio.start_server(welcome, "127.0.0.1", 0) as listener:
        client = DashScope(account, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api/v1", http)

        assert await not_sent(client)


BREAKS = {
    "closed after the request": drop,
    "reset after the request": reset,
    "closed in the head": raw(b"HTTP/1.1 200 O"),
    "closed in the body": answer(200, SUBMITTED, length=len(SUBMITTED) + 1, keep=False),
    "complete as JSON, but not as HTTP": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n7a\r\n" + SUBMITTED),
    "no HTTP": raw(b"\x00\x01\x02\r\n\r\n"),
    "no status": raw(b"HTTP/1.1 abc\r\n\r\n"),
    "endless header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}"),
    "bad header": raw(b"HTTP/1.1 200 OK\r\nX-\xff: 1\r\n\r\n{}"),
    "two lengths": raw(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "bad chunk": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "not zipped": answer(200, SUBMITTED, "Content-Encoding: gzip"),
    "encoding nobody asked for": answer(200, SUBMITTED, "Content-Encoding: zstd"),
    "encodings on top of each other": answer(200, SUBMITTED, "Content-Encoding: gzip, gzip, gzip"),
    "switched protocols": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}"),
}


@pytest.mark.parametrize("script", BREAKS.values(), ids=BREAKS)
async def test_an_answer_that_breaks_makes_a_submit_lost_and_a_read_repeatable(
    client: DashScope, server: HostileServer, script: Script
) -> None:
    server.play(script)

    assert isinstance(await submit(client), OutcomeUnknown)
    assert later(await client.query("a"))
    # Nothing is repeated behind the caller's back: the budget counted two calls.
    assert len(server.received) == 2


async def test_a_reason_phrase_that_is_no_text_does_no_harm(client: DashScope, server: HostileServer) -> None:
    server.play(raw(b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: %d\r\n\r\n" % len(SUBMITTED) + SUBMITTED, keep=True))

    assert isinstance(await submit(client), Accepted)


SLOW = {
    "never": silence,
    "endless interim answers": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless head": drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "endless body": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "slow body": drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_an_answer_has_a_deadline_however_slowly_it_comes(
    server: HostileServer, http: httpx.AsyncClient, account: Account, script: Script
) -> None:
    server.play(script)
    client = DashScope(account, server.base_url, http, deadline_s=0.1)

    assert isinstance(await submit(client), OutcomeUnknown)
    assert later(await client.query("a"))


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_server_that_answers_without_reading_a_large_request_cannot_hold_it_open(
    http: httpx.AsyncClient, account: Account
) -> None:
    over = asyncio.Event()

    async def answer_at_once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 9\r\n\r\n")
        await over.wait()
        writer.transport.abort()

    async with await asyncio.start_server(answer_at_once, "127.0.0.1", 0) as listener:
        base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api/v1"
        client = DashScope(account, base_url, http, deadline_s=0.1)
        async with asyncio.timeout(10):
            assert isinstance(await submit(client, *["https://h/" + "x" * 100_000] * 100), OutcomeUnknown)
        over.set()


async def test_an_answer_without_end_is_cut_off(
    server: HostileServer, http: httpx.AsyncClient, account: Account
) -> None:
    server.play(flood(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"))
    client = DashScope(account, server.base_url, http, max_response_bytes=100_000)

    assert isinstance(await submit(client), OutcomeUnknown)
    assert later(await client.query("a"))


async def test_an_answer_of_the_greatest_length_is_read(
    server: HostileServer, http: httpx.AsyncClient, account: Account
) -> None:
    server.play(OK)

    assert isinstance(
        await submit(DashScope(account, server.base_url, http, max_response_bytes=len(SUBMITTED))), Accepted
    )
    assert isinstance(
        await submit(DashScope(account, server.base_url, http, max_response_bytes=len(SUBMITTED) - 1)), OutcomeUnknown
    )


async def test_a_submit_on_a_connection_that_the_server_closed_meanwhile_is_not_called_unsent(
    client: DashScope, server: HostileServer
) -> None:
    async def answer_and_close_at_the_next_request(writer: asyncio.StreamWriter) -> bool:
        await OK(writer)
        return True

    # One connection: its second request is read and not answered, as by a server whose keep-alive has just run out.
    server.play(answer_and_close_at_the_next_request, drop)

    assert isinstance(await submit(client), Accepted)
    assert isinstance(await submit(client), OutcomeUnknown)
    assert (server.connections, len(server.received)) == (1, 2)


async def test_a_connection_that_the_server_says_it_closes_is_not_used_again(
    client: DashScope, server: HostileServer
) -> None:
    server.play(answer(200, SUBMITTED, "Connection: close", keep=False))

    assert [type(await submit(client)) for _ in range(3)] == [Accepted] * 3
    assert server.connections == 3


async def test_connections_are_used_again(client: DashScope, server: HostileServer) -> None:
    server.play(answer(200, sample("query_running")))

    assert [type(await client.query("a")) for _ in range(3)] == [TaskSnapshot] * 3
    assert server.connections == 1


async def test_broken_answers_do_not_use_up_the_connections(server: HostileServer, account: Account) -> None:
    server.play(*BREAKS.values(), answer(200, sample("query_running")))
    async with http_client(connect_timeout_s=1, max_connections=1) as http:
        client = DashScope(account, server.base_url, http)

        outcomes = [await client.query("a") for _ in range(len(BREAKS) + 1)]

    assert isinstance(outcomes[-1], TaskSnapshot)


async def test_a_canceled_call_leaves_its_connection_in_order(server: HostileServer, account: Account) -> None:
    server.play(silence, answer(200, sample("query_running")))
    async with http_client(connect_timeout_s=1, max_connections=1) as http:
        client = DashScope(account, server.base_url, http)
        call = asyncio.create_task(client.query("a"))
        await server.heard.wait()

        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call
        assert isinstance(await client.query("a"), TaskSnapshot)
