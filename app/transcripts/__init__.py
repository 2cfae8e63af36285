"""Transcripts: the results of files, stored and served in several forms."""
