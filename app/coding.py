"""gzip, the one coding in which bodies are stored and sent, as zlib is told of it."""

# Window bits for a gzip header, which then holds no time: equal contents make equal bytes.
GZIP = 31
