"""OpenAI's protocol for recordings: `POST /v1/audio/transcriptions`, for programs written for OpenAI's clients."""
