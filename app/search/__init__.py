"""Search: what was said, found by words, prefixes, phrases, and characters of scripts without spaces."""
