"""`transcribe`: for a person with a recording."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.start import command_group, start, stop
from app.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.transcribe.inputs import Recording

commands = command_group()


@commands.command()
def transcribe(
    recordings: Annotated[list[str], typer.Argument(metavar="FILE_OR_URL...", help="Local files, or URLs.")],
    *,
    formats: Annotated[str, typer.Option("--format", help="One or more of text,srt,vtt,json,md.")] = "text",
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the files. Unset: one transcript is printed.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model of the catalogue.")] = "fun-asr",
    region: Annotated[str, typer.Option(help="auto, beijing or singapore.")] = "auto",
    language: Annotated[
        str | None, typer.Option(help="Languages of the speech, such as zh or zh,en. Unset: recognized.")
    ] = None,
    speakers: Annotated[bool, typer.Option("--speakers", help="Tell the speakers apart, and label them.")] = False,
    speaker_count: Annotated[int | None, typer.Option(help="With --speakers: how many there are.")] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Reuse transcripts that the gateway has of the same audio.")
    ] = False,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Try it without a key: transcripts are invented, and not kept.")
    ] = False,
) -> None:
    """Transcribe recordings, and print the transcript of one or write a file for each.

    Local files are uploaded. The gateway is that of GATEWAY_URL and API_TOKEN, or the `serve` that runs on DATA_DIR,
    or a temporary one. Several recordings, or several formats, go to files in DIR or here; no file is
    overwritten. The exit code is 1 if a recording failed. Ctrl-C cancels the jobs.
    """
    settings = start()
    configure_logging("error")  # of a temporary gateway; the display shows the progress
    from app.transcribe.gateways import with_gateway
    from app.transcribe.inputs import TranscribeError, read_arguments, read_formats
    from app.transcribe.progress import Display
    from app.transcribe.transcription import Options, Transcription

    try:
        names = read_formats(formats)
    except TranscribeError as error:
        stop(error.detail, 2)
    given = read_arguments(recordings)
    to_files = output is not None or len(given) > 1 or len(names) > 1
    paths = _output_paths(given, names, output or Path()) if to_files else None
    if not (usable := _usable(given)):
        sys.exit(1)
    parameters = _parameters(language, speakers=speakers, speaker_count=speaker_count)
    options = Options(model, region, parameters, names, speakers, reuse, paths)
    display = Display()
    code = with_gateway(settings, lambda gateway: Transcription(gateway, options, display).run(usable), sandbox=sandbox)
    sys.exit(code or (1 if len(usable) < len(given) else 0))


def _output_paths(given: "list[Recording]", formats: "Sequence[str]", folder: Path) -> dict[str, dict[str, Path]]:
    """The files to write, by recording and format. Refuses files that exist, and makes the folder."""
    from app.transcribe.inputs import output_paths, refuse_existing
    from app.transcribe.outputs import prepare_folder

    paths = output_paths(given, formats, folder)
    refuse_existing(paths)
    prepare_folder(folder)
    return paths


def _usable(recordings: "list[Recording]") -> "list[Recording]":
    """The recordings that can be read. The others get a line each."""
    from app.transcribe.inputs import TranscribeError, check_file

    usable = []
    for recording in recordings:
        try:
            if recording.path is not None:
                check_file(recording.path)
        except TranscribeError as error:
            print(f"{recording.argument}: {error.detail}", file=sys.stderr)
        else:
            usable.append(recording)
    return usable


def _parameters(language: str | None, *, speakers: bool, speaker_count: int | None) -> dict[str, Any]:
    if speaker_count is not None and not speakers:
        stop("--speaker-count needs --speakers", 2)
    parameters: dict[str, Any] = {}
    if language is not None:
        parameters["language_hints"] = [part.strip() for part in language.split(",") if part.strip()]
    if speakers:
        parameters["diarization_enabled"] = True
    if speaker_count is not None:
        parameters["speaker_count"] = speaker_count
    return parameters
