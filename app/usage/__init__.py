"""What clients used, and what it cost: one row for each file, which outlives the job, the transcript and the client."""
