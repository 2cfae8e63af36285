"""What the arguments of `transcribe` mean, the names of its files, and how they are written."""

from pathlib import Path

import pytest

from app.server.published_address import published_address, running_gateway
from app.transcribe.inputs import (
    TranscribeError,
    check_file,
    output_paths,
    read_arguments,
    read_formats,
    refuse_existing,
)
from app.transcribe.outputs import prepare_folder, write_new


def names(*arguments: str, formats: str = "srt") -> list[str]:
    paths = output_paths(read_arguments(arguments), read_formats(formats), Path("out"))
    return [path.name for each in paths.values() for path in each.values()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["call.wav"], ["call.srt"]),
        (["a/call.wav", "b/call.wav", "b/CALL.mp3"], ["call.srt", "call-2.srt", "CALL-3.srt"]),
        (["call.wav", "call-2.wav", "x/call.mp3"], ["call.srt", "call-2.srt", "call-3.srt"]),
        (["a.wav", "a.wav"], ["a.srt"]),
        (["https://e/%E5%BD%95%E9%9F%B3.wav?Signature=abc"], ["录音.srt"]),
        (["https://e/a%2F..%2Fetc.wav"], ["etc.srt"]),
        (["https://example.com/"], ["example.srt"]),
        (["archive.tar.gz"], ["archive.tar.srt"]),
        ([".hidden"], ["hidden.srt"]),
        (["con:1?.wav"], ["con_1_.srt"]),
        # URLs that the gateway refuses.
        (["http://[::1", "https://[x]/a.wav?b#c"], ["[__1.srt", "a.srt"]),
        # File names in GBK.
        (["\udcc4\udce3.wav", "a/\udcba\udcc3.wav"], ["\ufffd\ufffd.srt", "\ufffd\ufffd-2.srt"]),
    ],
)
def test_names_come_from_the_recordings_and_do_not_collide(arguments: list[str], expected: list[str]) -> None:
    assert names(*arguments) == expected


def test_long_names_leave_room_for_the_extension() -> None:
    (name,) = names(f"{'录' * 300}.wav")
    assert len(name.encode()) < 250


def test_each_format_has_an_extension() -> None:
    assert names("a.wav", formats="text,srt, VTT,json,md,srt") == ["a.txt", "a.srt", "a.vtt", "a.json", "a.md"]


@pytest.mark.parametrize("value", ["", ",", "docx", "srt,docx"])
def test_unknown_format_is_named_with_those_that_exist(value: str) -> None:
    with pytest.raises(TranscribeError, match=r"needs one or more of text,srt,vtt,json,md"):
        read_formats(value)


def test_labels_tell_equal_names_apart_without_signatures() -> None:
    recordings = read_arguments(["a/x.wav", "b/x.wav", "https://e/x.wav?Signature=secret", "y.wav"])
    assert [each.label for each in recordings] == ["a/x.wav", "b/x.wav", "https://e/x.wav", "y.wav"]


def test_files_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    reasons = []
    for path in (tmp_path / "missing.wav", tmp_path, tmp_path / "empty.wav", tmp_path / ("x" * 300)):
        with pytest.raises(TranscribeError) as caught:
            check_file(path)
        reasons.append(caught.value.detail)
    assert reasons == [
        "does not exist",
        "is a folder; name the files in it",
        "is empty",
        "cannot be read: File name too long",
    ]


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "call.srt"
    paths = output_paths(read_arguments(["call.wav"]), ["srt"], tmp_path)
    refuse_existing(paths)
    target.write_text("mine")
    with pytest.raises(TranscribeError, match="exists and is not overwritten"):
        refuse_existing(paths)
    with pytest.raises(TranscribeError, match="exists and is not overwritten"):
        write_new(target, b"new")
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_dangling_link_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "call.srt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TranscribeError, match="exists"):
        refuse_existing(output_paths(read_arguments(["call.wav"]), ["srt"], tmp_path))
    with pytest.raises(TranscribeError, match="exists"):
        write_new(tmp_path / "call.srt", b"new")
    assert not (tmp_path / "elsewhere").exists()


def test_written_file_is_complete_and_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "call.srt"
    write_new(target, b"text")
    assert target.read_bytes() == b"text"
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert list(tmp_path.iterdir()) == [target]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TranscribeError, match="cannot be written"):
        write_new(tmp_path / ("x" * 300), b"text")
    assert list(tmp_path.iterdir()) == []


def test_output_folder_is_made_or_refused(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(TranscribeError, match="needs a folder"):
        prepare_folder(tmp_path / "file")


def test_address_of_a_killed_gateway_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "address").write_text("http://127.0.0.1:8000\n")
    assert running_gateway(tmp_path) is None


def test_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with published_address(tmp_path / "data", "http://127.0.0.1:8000"):
        assert running_gateway(tmp_path / "data") is None
    assert not (tmp_path / "data").exists()


def _umask() -> int:
    probe = Path("probe")
    probe.touch()
    mask = 0o666 & ~probe.stat().st_mode
    probe.unlink()
    return mask
