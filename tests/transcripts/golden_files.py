"""Captions and texts of the samples as committed files, for review by a reader.

After an intended change run `python -m tests.transcripts.golden_files` and review the difference.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.transcripts import text
from app.transcripts.captions import CaptionOptions, Cue, srt, ttml, vtt
from app.transcripts.normalise import normalise
from tests.transcripts.documents import FIELD, SAMPLES, cues, sample, sentence, spoken, transcript

FOLDER = Path(__file__).parent / "goldens"
FIELD_NAMES = sorted(path.stem for path in FIELD.glob("*.json"))
NAMES = [*sorted(path.stem.removeprefix("result_") for path in SAMPLES.glob("result_*.json")), *FIELD_NAMES, "call"]


def golden_transcripts(name: str) -> list[dict[str, Any]]:
    if name == "call":
        return _call()
    if name in FIELD_NAMES:
        raw = (FIELD / f"{name}.json").read_bytes()
        return normalise(raw, file_url="https://client.example/a.wav", family="fun-asr").transcripts
    family = "sensevoice" if name.startswith("sensevoice") else "fun-asr"
    return normalise(sample(name), file_url="https://client.example/a.wav", family=family).transcripts


def golden_cues(name: str) -> list[Cue]:
    return list(cues(golden_transcripts(name), CaptionOptions(speakers=True)))


def goldens() -> Iterator[tuple[Path, str]]:
    """Each file with its expected contents."""
    for name in NAMES:
        found = golden_cues(name)
        yield FOLDER / f"{name}.srt", "".join(srt(found))
        yield FOLDER / f"{name}.vtt", "".join(vtt(found))
        yield FOLDER / f"{name}.ttml", "".join(ttml(found))
        yield FOLDER / f"{name}.txt", "".join(text.text(golden_transcripts(name), speakers=True))


def _call() -> list[dict[str, Any]]:
    """A telephone call with cases that the samples lack.

    Overlapping speech, pauses, long sentences, four scripts, and characters with a meaning in captions.
    """
    first = [
        "您好，",
        "这里",
        "是",
        "阿里",
        "云",
        "客服",
        "中心，",
        "请问",
        "有",
        "什么",
        "可以",
        "帮助",
        "您",
        "的吗？",
    ]
    agent = transcript(
        spoken(*((500 + 220 * index, 720 + 220 * index, word) for index, word in enumerate(first))),
        spoken((9000, 9400, "嗯，"), (9400, 9900, "好的。"), (11_900, 12_300, "请"), (12_300, 12_800, "稍等。")),
        sentence("「録音データの文字起こし」ですね。もちろんできますよ、いつでもどうぞ。", 24_000, 29_500),
        sentence("네, 알겠습니다. 잠시만 기다려 주세요.", 31_000, 33_500),
        channel_id=0,
    )
    caller = transcript(
        sentence("喂？", 3000, 3300),
        sentence(
            "Yes, hello, I'd like to know whether AT&T recordings with a < b & an arrow --> in them are"
            " transcribed as well as those of everybody else, because last week somebody told me they weren't.",
            *(4200, 16_800),
        ),
        sentence("OK.", 17_000, 17_200),
        sentence("OK, 谢谢您，再见！", 17_300, 19_000),
        channel_id=1,
    )
    return [agent, caller]


if __name__ == "__main__":
    for path, contents in goldens():
        path.write_text(contents, encoding="utf-8")
