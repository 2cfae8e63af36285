"""Full-text search over transcripts: words, prefixes, phrases, and characters of scripts without spaces."""
