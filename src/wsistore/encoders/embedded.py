"""Registry: encoders that come with this package; no download, no torch."""

from __future__ import annotations

from wsistore.encoders.entry import EncoderEntry

_OWN = {
    "group": "embedded",
    "family": "embedded",
    "input_size": None,
    "resize": None,
    "mean": None,
    "std": None,
    "source": "wsistore",
    "licence": "Apache-2.0",
}

ENTRIES: tuple[EncoderEntry, ...] = (
    EncoderEntry(
        name="colour-stats",
        architecture="ColourStats",
        dim=30,
        pooling="statistics",
        notes="30 named numbers of colour, stain, tissue and focus (COLOUR_STATS_FEATURES). "
        "For quality control and as a baseline; knows nothing of cells.",
        **_OWN,  # type: ignore[arg-type]
    ),
    EncoderEntry(
        name="null",
        architecture="NullEncoder",
        dim=1,
        pooling="none",
        notes="One zero for each tile; measures all but the model.",
        **_OWN,  # type: ignore[arg-type]
    ),
)
