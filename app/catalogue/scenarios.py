"""Recommended models per scenario. Source: the founding document's table, in its order and in its words."""

from collections.abc import Mapping

from app.catalogue.model import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        id="chinese",
        scenario="Chinese speech (meetings, live streams)",
        scenario_zh="中文识别（会议/直播）",
        models=("fun-asr",),
        reason="Deeply optimised for Chinese with many dialects; robust against distance and noise, so more accurate "
        "where several people speak in noisy surroundings or far from the microphone.",
        reason_zh="针对中文深度优化，覆盖多种方言；远场VAD和噪声鲁棒性强，适合嘈杂或多人远距离发言的真实场景，准确率更高",
    ),
    Scenario(
        id="multilingual",
        scenario="Several languages (international meetings)",
        scenario_zh="多语种识别（国际会议）",
        models=("fun-asr-mtl", "paraformer-v2"),
        reason="One model for all languages keeps development and deployment simple.",
        reason_zh="一个模型即可应对多语言需求，简化开发和部署",
    ),
    Scenario(
        id="entertainment",
        scenario="Entertainment content and its subtitles",
        scenario_zh="文娱内容分析与字幕生成",
        models=("fun-asr",),
        reason="The only one that recognises singing, in songs and in live streams; its robustness against noise suits "
        "complex media audio.",
        reason_zh="具备独特的歌唱识别能力，能有效转写歌曲、直播中的演唱片段；结合其噪声鲁棒性，非常适合处理复杂的媒体音频",
    ),
    Scenario(
        id="news",
        scenario="Subtitles for news and interviews",
        scenario_zh="新闻/访谈节目字幕生成",
        models=("fun-asr", "paraformer-v2"),
        reason="Long audio, punctuation and timestamps: structured subtitles come out directly.",
        reason_zh="长音频+标点预测+时间戳，直接生成结构化字幕",
    ),
    Scenario(
        id="far_field",
        scenario="Far-field voice commands for smart devices",
        scenario_zh="智能硬件远场语音交互",
        models=("fun-asr",),
        reason="Voice activity detection optimised for distance captures commands in noisy homes and cars.",
        reason_zh="远场VAD（语音活动检测）经过专门优化，能在家庭、车载等嘈杂环境下，更准确地捕捉和识别用户的远距离指令",
    ),
)

# A scenario is found by its id and by its name in both languages.
BY_NAME: Mapping[str, Scenario] = {
    name: scenario for scenario in SCENARIOS for name in (scenario.id, scenario.scenario, scenario.scenario_zh)
}


def recommended_for(model_id: str) -> tuple[Scenario, ...]:
    return tuple(scenario for scenario in SCENARIOS if model_id in scenario.models)
