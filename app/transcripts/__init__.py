"""Transcripts: what became of the files."""
