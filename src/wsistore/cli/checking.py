"""``wsistore verify`` and ``wsistore validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore.cli.boundary import Debug, ExitCode, Json, guarded, print_json
from wsistore.durable.outcome import counted

if TYPE_CHECKING:
    from wsistore.pyramid.validation import Finding
    from wsistore.pyramid.verifying import VerifyReport

Store = Annotated[str, typer.Argument(metavar="STORE", help="An OME-Zarr store.")]


@guarded
def verify(
    store: Store,
    against: Annotated[
        str | None, typer.Option(metavar="SRC", help="The slide that it was made from.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Check the bytes of a store: its checksums, and its tiles against the slide's."""
    from wsistore.pyramid.verifying import verify as check
    from wsistore.sources import redact

    report = check(store, against)
    if as_json:
        print_json(_verify_record(report))
    else:
        _print_verified(redact(store), report, None if against is None else redact(against))
    return ExitCode(report.exit_code)


def _verify_record(report: VerifyReport) -> dict[str, Any]:
    """Return a report as ``--json`` prints it; keys are only ever added."""
    return {
        "store": report.store,
        "ok": report.ok,
        "shards": report.shards,
        "chunks": report.chunks,
        "compared_tiles": report.compared_tiles,
        "findings": [{"where": found.where, "what": found.what} for found in report.findings],
        "differences": [
            {"level": level.level, "mean": level.mean, "largest": level.largest}
            for level in report.differences
        ],
    }


def _print_verified(store: str, report: VerifyReport, against: str | None) -> None:
    _print_findings(report.findings)
    for level in report.differences:
        typer.echo(
            f"level {level.level}, encoded anew: differs from {against} by {level.mean:.2f} grey "
            f"levels in the mean, by {level.largest} at most"
        )
    if report.ok:
        parts = f"{counted(report.shards, 'shard')}, {counted(report.chunks, 'chunk')}"
        line = f"{store}: {parts} match their checksums"
        if report.compared_tiles:
            line += f"; {report.compared_tiles} tiles are those of {against}, byte for byte"
        typer.echo(line)
    else:
        typer.echo(f"{store}: {counted(len(report.findings), 'finding')}", err=True)


_SHOWN = 20
"""Findings that are printed; all of them are in the JSON."""


def _print_findings(findings: tuple[Any, ...]) -> None:
    for found in findings[:_SHOWN]:
        typer.echo(f"{found.where}: {found.what}", err=True)
    if len(findings) > _SHOWN:
        typer.echo(f"... and {len(findings) - _SHOWN} more (--json lists all)", err=True)


@guarded
def validate(
    store: Store,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Check that a store is what NGFF says it must be; warnings don't fail it."""
    from wsistore.pyramid.validation import validate as check
    from wsistore.sources import redact

    findings = check(store)
    store = redact(store)
    errors = sum(found.severity == "error" for found in findings)
    if as_json:
        print_json(_validate_record(store, findings))
    else:
        _print_findings(tuple(findings))
        if not errors:
            typer.echo(f"{store}: valid NGFF, {len(findings)} warnings")
        else:
            typer.echo(f"{store}: not valid NGFF, {errors} errors", err=True)
    return ExitCode.FAILED if errors else ExitCode.DONE


def _validate_record(store: str, findings: list[Finding]) -> dict[str, Any]:
    """Return findings as ``--json`` prints them; keys are only ever added."""
    return {
        "store": store,
        "ok": all(found.severity != "error" for found in findings),
        "findings": [
            {
                "severity": found.severity,
                "code": found.code,
                "where": found.where,
                "text": found.text,
            }
            for found in findings
        ],
    }
