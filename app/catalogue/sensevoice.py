"""The SenseVoice model, in Beijing only, announced as retired. Source: founding document. Languages: its API page."""

from typing import Literal, get_args

from app.catalogue import parameters as p
from app.catalogue.defaults import (
    ANNOUNCED_NOTE,
    FORMATS,
    MAX_FILE_BYTES,
    MAX_FILES_PER_TASK,
    QUERY_RPS,
    SDK_ACCESS,
    SOURCE_DATE,
    cny,
    codes,
    replaced_by,
)
from app.catalogue.links import SENSEVOICE_LINKS
from app.catalogue.model import Family, Model, SampleRates
from app.catalogue.scenarios import recommended_for

_LANGUAGES = codes(
    "zh en yue ja ko ru fr it de es ca id th nl pt cs pl el ms tl bg hr da tr vi he hu uk jw uz no ro sv fa ta az bn "
    "my km hi kn lo ml mr mn ne pa si sw te ur ha"
)
# The tags in the text of a result. SPECIAL_TOKEN_1 means that no emotion was recognised.
EMOTIONS = ("NEUTRAL", "HAPPY", "ANGRY", "SAD")
SpeechEvent = Literal["Speech", "Applause", "BGM", "Laughter"]
EVENTS: tuple[SpeechEvent, ...] = get_args(SpeechEvent)
_FILLER_NOTE = (
    "DashScope's page lists disfluency_removal_enabled; the founding document says that fillers cannot be removed, "
    "so it is refused."
)

SENSEVOICE = (
    Model(
        id="sensevoice-v1",
        family=Family.SENSEVOICE,
        alias_of=None,
        regions=cny(beijing="0.0007"),
        languages=_LANGUAGES,
        dialects="Strongest in the first ten languages of the list.",
        dialects_zh="重点语言：中文、英文、粤语、日语、韩语、俄语、法语、意大利语、德语、西班牙语",
        sample_rates=SampleRates(),
        formats=FORMATS,
        max_file_bytes=MAX_FILE_BYTES,
        max_duration_s=None,
        max_files_per_task=MAX_FILES_PER_TASK,
        submit_rps=10.0,
        query_rps=QUERY_RPS,
        features={
            "emotion": "always",
            "timestamps": "always",
            "punctuation": "always",
            "hot_words": "no",
            "itn": "always",
            "singing": "no",
            "noise_rejection": "no",
            "sensitive_words": "no",
            "diarization": "no",
            "filler_removal": "no",
            "vad": "no",
        },
        parameters=(
            p.single_language_hint(_LANGUAGES),
            p.CHANNEL_ID,
        ),
        access=SDK_ACCESS,
        links=SENSEVOICE_LINKS,
        deprecation=replaced_by(
            "fun-asr",
            deprecated_at=SOURCE_DATE,
            note=f"To be retired soon, according to the founding document. {ANNOUNCED_NOTE}",
            note_zh="即将下线",
        ),
        scenarios=recommended_for("sensevoice-v1"),
        notes=(_FILLER_NOTE,),
        emotions=EMOTIONS,
        events=EVENTS,
    ),
)
