"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from wsistore._version import __version__
from wsistore.cli.checking import validate, verify
from wsistore.cli.converting import convert
from wsistore.cli.describing import info
from wsistore.cli.doctor import doctor
from wsistore.cli.encoders import encoders
from wsistore.cli.exporting import export, features
from wsistore.cli.processing import embed, process
from wsistore.cli.seedcommands import segment_and_get_coords
from wsistore.cli.segmenting import segment
from wsistore.cli.serving import serve
from wsistore.cli.tiling import tile
from wsistore.cli.virtualizing import virtualize

app = typer.Typer(
    help="Whole-slide images made cloud-ready: convert, check and describe them.",
    epilog="Exit codes: 0 all done, 1 nothing done or a check failed, 2 wrong usage, "
    "3 part failed, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback is for bugs only, and then it must be whole and plain.
    pretty_exceptions_enable=False,
)
app.command()(convert)
app.command()(verify)
app.command()(validate)
app.command()(info)
app.command()(encoders)
app.command()(segment)
app.command()(tile)
app.command()(segment_and_get_coords)
app.command()(process)
app.command()(embed)
app.command()(export)
app.add_typer(features, name="features")
app.command()(serve)
app.command()(virtualize)
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wsistore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    storage_option: Annotated[
        list[str] | None,
        typer.Option(
            "--storage-option",
            metavar="KEY=VALUE",
            help="How remote storage is reached: endpoint, region, anonymous, profile, "
            "deadline_s, ... Repeatable; before the command. Keys and secrets are better "
            "kept in the environment or a profile.",
        ),
    ] = None,
    index_cache: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder in which headers and tile tables of remote slides are kept, so that "
            "opening one again costs one request. What was used longest ago goes when it "
            "holds more than 1 GiB, or --storage-option index_cache_bytes=N.",
        ),
    ] = None,
) -> None:
    """Whole-slide images made cloud-ready: convert, check and describe them."""
    del version  # its own callback has answered
    if storage_option or index_cache:
        from wsistore.errors import UsageError
        from wsistore.sources import configure_storage, parse_storage_options

        try:
            options = parse_storage_options(storage_option or [])
            configure_storage(options | ({"index_cache": index_cache} if index_cache else {}))
        except UsageError as error:
            raise typer.BadParameter(str(error)) from None
