"""Spellings of a file's URL: equal files, and files that may share a task."""

import pytest

from app.dashscope.file_urls import DistinctFiles, file_key, share_key, upload_path


def same_file(sent: str, echoed: str) -> bool:
    """True if the echo matches the submitted file by its key, or by its path for an upload."""
    upload = sent.startswith("oss://") and upload_path(sent) == upload_path(echoed)
    return upload or file_key(sent) == file_key(echoed)


OSS = "oss://dashscope-instant/xxx/2026-07-18/xxxx/hello.wav"
OSS_ECHO = "http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com/dashscope-instant/xxx/2026-07-18/xxxx/hello.wav?Expires=1&S=2"


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("https://h/a.wav", "https://h/a.wav"),
        ("https://h/a.wav?x=1&y=2", "https://h/a.wav?x=1&y=2"),
        ("https://h/%E4%BD%A0%E5%A5%BD.wav", "https://h/你好.wav"),
        ("https://h/%E4%BD%A0%E5%A5%BD.wav", "https://h/%e4%bd%a0%e5%a5%bd.wav"),
        ("https://h/a%20b.wav", "https://h/a b.wav"),
        ("https://h/17%3A31.wav?Signature=a%2Fb%3D", "https://h/17:31.wav?Signature=a/b="),
        ("https://h/%C4%E3%BA%C3.wav", "https://h/%c4%e3%ba%c3.wav"),
        (OSS, OSS_ECHO),
        (OSS, OSS),
        ("oss://dir/%E4%BD%A0.wav", "http://bucket.oss-cn-beijing.aliyuncs.com/dir/你.wav?Signature=x"),
        ("oss://dir/你.wav", "http://bucket.oss-cn-beijing.aliyuncs.com/dir/%E4%BD%A0.wav?Signature=x"),
        ("https://h/a+b.wav?x=%2B", "https://h/a b.wav?x=+"),
        ("https://h/a%252Fb.wav", "https://h/a/b.wav"),
        ("https://user:pw@Host.example:443/a.wav", "HTTPS://user:pw@HOST.EXAMPLE./a.wav"),
        ("http://h:80/a.wav", "http://h/a.wav"),
        ("https://h:/x/../a.wav", "https://h//./a.wav"),
        ("https://h?x", "https://h/?x"),
        ("https://xn--fsq.example/a.wav", "https://例.example/a.wav"),
    ],
)
def test_echo_matches_the_submitted_file(sent: str, echoed: str) -> None:
    assert same_file(sent, echoed)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("https://h/a.wav", "https://h/b.wav"),
        ("https://h/a.wav?x=1", "https://h/a.wav?x=2"),
        ("https://h/a.wav?x=1", "https://h/a.wav"),
        ("https://h/a.wav", "http://h/a.wav"),
        ("https://h/a.wav", "https://h/A.wav"),
        ("http://h:443/a.wav", "http://h/a.wav"),
        ("https://h/a.wav", "https://h:8443/a.wav"),
        ("https://user@h/a.wav", "https://h/a.wav"),
        ("https://h/%C4%E3.wav", "https://h/%BA%C3.wav"),  # both are GBK, which is not UTF-8
        (OSS, OSS_ECHO.replace("hello", "other")),
        (OSS, "http://[broken"),
        ("oss://dir/a.wav", "http://bucket.aliyuncs.com/b?x=/dir/a.wav"),
        ("https://h/dir/a.wav", "oss://h/dir/a.wav"),
    ],
)
def test_echo_of_another_file_does_not_match(sent: str, echoed: str) -> None:
    assert not same_file(sent, echoed)


def test_urls_with_lone_surrogates_can_be_compared() -> None:
    assert same_file("https://h/\ud800.wav", "https://h/\ud800.wav")
    assert not same_file("https://h/\ud800.wav", "https://h/\ud801.wav")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/a%2Fb.wav", "https://h/a/b.wav"),
        ("https://h/a%252Fb.wav", "https://h/a%2Fb.wav"),
        ("https://h/a+b.wav", "https://h/a%20b.wav"),
        ("https://h/a%2Bb.wav", "https://h/a+b.wav"),
        ("https://h/a%40b.wav", "https://h/a@b.wav"),
        ("https://h/%3D%CC%B8.wav", "https://h/%E2%89%A0.wav"),
        ("https://h/a.wav", "https://H:443/a.wav"),
        ("https://h/a.wav", "http://h/a.wav"),
        ("https://u:p@h/a.wav", "https://h/a.wav"),
        ("https://h/A.wav", "https://h/a.wav"),
        ("https://h/%C3%A9.wav", "https://h/e%CC%81.wav"),
        ("https://h/%C4%E3.wav", "https://h/%BA%C3.wav"),  # both are GBK: decoded as UTF-8 they are equal
        ("oss://dir/a%2Fb.wav", "oss://dir/a/b.wav"),
        ("oss://dir/a.wav", "https://h/dir/a.wav?x=1"),
        ("https://h/dir/a.wav?x=1", "oss://dir/a.wav"),
    ],
)
def test_files_that_an_echo_may_confuse_do_not_share_a_task(one: str, other: str) -> None:
    distinct = DistinctFiles([one])
    assert not distinct.add(other)
    assert distinct.add("https://h/another.wav")


def test_uploads_are_compared_with_all_other_urls() -> None:
    urls = ["https://h/a.wav", "oss://dir/b.wav", "https://h/c.wav", "oss://dir/d.wav"]
    distinct = DistinctFiles(urls)
    assert not any(
        distinct.add(url) for url in ["oss://a.wav", "https://i/dir/b.wav", "oss://c.wav", "oss://dir/D.wav"]
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/get?id=1", "https://h/get?id=2"),
        ("https://h/get?time", "https://h/get?station"),
        ("https://h/get?a.wav", "https://h/?geta.wav"),
        ("https://h/1.wav", "https://h/2.wav"),
        ("https://h/a%231.wav", "https://h/a%232.wav"),
        ("https://h/a.wav", "https://i/a.wav"),
        ("https://h/%E4%BD%A0.wav", "https://h/%E5%A5%BD.wav"),
        ("oss://dir/a.wav", "oss://dir/b.wav"),
        ("oss://dir/a.wav", "https://h/a.wav"),
    ],
)
def test_different_files_may_share_a_task(one: str, other: str) -> None:
    assert share_key(one) != share_key(other)
    assert DistinctFiles([one]).add(other)
