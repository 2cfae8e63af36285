"""The commands of `python -m app`, one typer application for each subject."""
