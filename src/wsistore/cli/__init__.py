"""The command line. Nothing else knows it, and ``wsistore --help`` loads nothing heavy."""

from __future__ import annotations


def main() -> None:
    """Run the command line (the entry point ``wsistore``)."""
    from wsistore.cli.app import app

    app(prog_name="wsistore")


__all__ = ["main"]
