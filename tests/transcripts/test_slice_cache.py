"""The cache of slices of stored bodies."""

from uuid import UUID

from app.transcripts.queries import SliceCache

A, B = UUID(int=1), UUID(int=2)


def test_least_recently_used_slice_is_evicted_first() -> None:
    slices = SliceCache(30)
    for at in (0, 10, 20):
        slices.put((A, "raw", at), b"x" * 10)
    assert slices.get((A, "raw", 0))
    slices.put((B, "raw", 0), b"y" * 10)
    slices.put((B, "raw", 0), b"y" * 10)
    assert slices.get((A, "raw", 10)) is None
    assert [slices.get((A, "raw", at)) for at in (0, 20)] == [b"x" * 10] * 2
    assert slices.get((B, "raw", 0)) == b"y" * 10
    assert slices.get((B, "document", 0)) is None


def test_slices_of_a_deleted_transcript_are_removed() -> None:
    slices = SliceCache(30)
    slices.put((A, "raw", 0), b"x" * 20)
    slices.put((B, "raw", 0), b"x" * 10)
    slices.forget_transcript(A)
    slices.put((B, "raw", 10), b"x" * 20)
    assert slices.get((A, "raw", 0)) is None
    assert slices.get((B, "raw", 0))
