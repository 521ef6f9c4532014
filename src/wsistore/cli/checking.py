"""``wsistore verify`` and ``wsistore validate``."""

from __future__ import annotations

from typing import Annotated

import typer

from wsistore.cli.boundary import Debug, ExitCode, Json, guarded

Store = Annotated[str, typer.Argument(metavar="STORE", help="An OME-Zarr store.")]


@guarded
def verify(
    store: Store,
    against: Annotated[
        str | None, typer.Option(metavar="SRC", help="The slide that it was made from.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> ExitCode:
    """Check the bytes of a store: its checksums, and its tiles against the slide's."""
    raise NotImplementedError


@guarded
def validate(
    store: Store,
    as_json: Json = False,
    debug: Debug = False,
) -> ExitCode:
    """Check that a store is what NGFF says it must be."""
    raise NotImplementedError
