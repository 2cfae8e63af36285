"""`python -m app transcribe`: transcribes recordings of a person through the HTTP API of a gateway."""
