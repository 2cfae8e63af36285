"""Recommended models per scenario. Source: the founding document's table, in its order."""

from app.catalogue.model import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "Chinese speech (meetings, live streams)",
        ("fun-asr",),
        "Deeply optimised for Chinese with many dialects; robust against distance and noise, so more accurate where "
        "several people speak in noisy surroundings or far from the microphone.",
    ),
    Scenario(
        "Several languages (international meetings)",
        ("fun-asr-mtl", "paraformer-v2"),
        "One model for all languages keeps development and deployment simple.",
    ),
    Scenario(
        "Entertainment content and its subtitles",
        ("fun-asr",),
        "The only one that recognises singing, in songs and in live streams; its robustness against noise suits "
        "complex media audio.",
    ),
    Scenario(
        "Subtitles for news and interviews",
        ("fun-asr", "paraformer-v2"),
        "Long audio, punctuation and timestamps: structured subtitles come out directly.",
    ),
    Scenario(
        "Far-field voice commands for smart devices",
        ("fun-asr",),
        "Voice activity detection optimised for distance captures commands in noisy homes and cars.",
    ),
)


def recommended_for(model_id: str) -> tuple[Scenario, ...]:
    return tuple(scenario for scenario in SCENARIOS if model_id in scenario.models)
