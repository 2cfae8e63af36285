"""Pages of Alibaba Cloud about models and regions. Source: the links of the founding document."""

from collections.abc import Mapping

_HELP = "https://help.aliyun.com/zh/model-studio"

# Pages that concern every model.
_COMMON = {
    "guide": f"{_HELP}/recording-file-recognition",
    "models": f"{_HELP}/models",
    "api_key": f"{_HELP}/get-api-key",
    "sdk": f"{_HELP}/install-sdk",
    "deployment_modes": f"{_HELP}/regions/#080da663a75xh",
    "compliance": f"{_HELP}/compliance-and-launch-filing-guide-for-ai-apps-powered-by-the-tongyi-model",
}
HOT_WORDS = f"{_HELP}/custom-hot-words"
SENSITIVE_WORDS = (
    "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/"
    "%E7%99%BE%E7%82%BC%E6%95%8F%E6%84%9F%E8%AF%8D%E5%88%97%E8%A1%A8_20230716.words.txt"
)

FUN_ASR_LINKS: Mapping[str, str] = {
    "api_reference": f"{_HELP}/fun-asr-recorded-speech-recognition-api-reference/",
    **_COMMON,
    "hot_words": HOT_WORDS,
    "sensitive_words": SENSITIVE_WORDS,
}
PARAFORMER_LINKS: Mapping[str, str] = {
    "api_reference": f"{_HELP}/paraformer-recorded-speech-recognition-api-reference/",
    **_COMMON,
    "hot_words": HOT_WORDS,
    "sensitive_words": SENSITIVE_WORDS,
}
SENSEVOICE_LINKS: Mapping[str, str] = {
    "api_reference": f"{_HELP}/sensevoice-speech-recognition/",
    **_COMMON,
    "languages": f"{_HELP}/sensevoice-recorded-speech-recognition-java-sdk#7a65158a77hpf",
}
QWEN3_ASR_LINKS: Mapping[str, str] = {**_COMMON, "guide": f"{_HELP}/qwen-speech-recognition"}
QWEN_AUDIO_LINKS: Mapping[str, str] = {
    "api_reference": "https://www.alibabacloud.com/help/en/model-studio/qwen-audio-asr-filetrans-api",
    **_COMMON,
    "hot_words": HOT_WORDS,
    "sensitive_words": SENSITIVE_WORDS,
}
