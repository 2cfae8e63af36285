"""Messages show a client the URL of its own file only."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashscope.failures import classify_file, hide_other_urls

OWN = "https://own.example/a%2Fb.wav?Signature=s%3D"
SHOWN = "https://own.example/a%2Fb.wav"
OTHER = "https://clinic.example/patients/mueller-2.wav"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no URL here: a://", "no URL here: …"),
        (f"cannot read {OTHER}", "cannot read …"),
        (f"cannot read {OTHER}?x=1&y=2: HTTP 403", "cannot read …: HTTP 403"),
        (f"cannot read {OWN}, sorry", f"cannot read {SHOWN}, sorry"),
        (f"cannot read {SHOWN}?….", f"cannot read {SHOWN}."),
        ("cannot read https://OWN.example/a/b.wav", f"cannot read {SHOWN}"),
        (f'["{OWN}","{OTHER}"]', f'["{SHOWN}","…"]'),
        (f"{OWN},{OTHER},{OTHER}", f"{SHOWN},…,…"),
        (f"无法下载{OTHER}，请检查", "无法下载…，请检查"),
        ("x oss://dir/secret.wav y", "x … y"),
        ("x ://clinic.example/p.wav y", "x … y"),
        (f"url={OTHER}", "url=…"),
        (f"{SHOWN}/more", "…"),
        (f"({OTHER})", "(…)"),
    ],
)
def test_other_urls_are_hidden(message: str, shown: str) -> None:
    assert hide_other_urls(message, OWN) == shown


def test_urls_are_hidden_in_classified_failures() -> None:
    failure = classify_file("InvalidParameter", f"cannot read {OTHER}?Signature=1 and {OWN}")
    assert hide_other_urls(failure.message, OWN) == f"InvalidParameter: cannot read … and {SHOWN}"


@given(st.text(alphabet="ab:/ .,?%+…\"'，(", max_size=60))
def test_no_other_url_remains(text: str) -> None:
    assert "://" not in hide_other_urls(text, OWN).replace(SHOWN, "")


@pytest.mark.slow
@pytest.mark.parametrize("repeated", ["a", "://", "a://b", "%25", "https://h/", ".,", "' "])
def test_time_is_linear_in_the_length_of_the_message(repeated: str) -> None:
    def seconds(count: int) -> float:
        message = repeated * count + "://"
        return min(_seconds(message) for _ in range(5))

    assert seconds(32_000) < 40 * seconds(4_000)


def _seconds(message: str) -> float:
    since = time.perf_counter()
    hide_other_urls(message, OWN)
    return time.perf_counter() - since
