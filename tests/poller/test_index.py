"""What is collected is indexed for search, by the poller itself."""

from tests.poller.conftest import Desk, StartPoller


async def test_what_was_collected_is_in_the_index_soon_after(services: Desk, start_poller: StartPoller) -> None:
    job = await services.post("https://example.com/a.wav")
    async with start_poller():
        assert await services.final(job) == ["succeeded"]
        await services.until("SELECT 1 FROM transcript_segments WHERE terms IS NOT NULL")
