"""Write a synthetic Aperio slide: an H&E-like texture, no pixels of anyone's tissue."""

from __future__ import annotations

import sys
from pathlib import Path

from wsistore.testing import write_slide


def main() -> None:
    """Write the slide to the path that the command line names."""
    path = Path(sys.argv[1])
    write_slide(path, size=(3000, 2000))
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
