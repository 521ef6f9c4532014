"""``python -m wsistore.cli`` is the command line too."""

from __future__ import annotations

from wsistore.cli import main

main()
