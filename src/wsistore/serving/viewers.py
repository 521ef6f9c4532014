"""Links that open a served slide in a viewer."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from wsistore.serving.exhibits import ServedSlide

NEUROGLANCER = "https://neuroglancer-demo.appspot.com/"
VIZARR = "https://hms-dbmi.github.io/vizarr/"
VALIDATOR = "https://ome.github.io/ome-ngff-validator/"

SHADER = """void main() {
  emitRGB(vec3(toNormalized(getDataValue(0)), toNormalized(getDataValue(1)),
               toNormalized(getDataValue(2))));
}
"""
"""Neuroglancer's program for a px of three channels; without it, it shows one in grey."""


def neuroglancer_state(slide: ServedSlide) -> dict[str, Any]:
    """Return the state of neuroglancer that shows a slide in its colours, the whole of it.

    The channels are made a channel dimension (``c^``), whose values the shader sees at once
    (https://github.com/google/neuroglancer, "channel dimensions").
    """
    scale = _scale(slide)
    dimensions = {"x": scale["x"], "y": scale["y"]}
    source = {
        "url": f"{slide.url}|zarr3:",
        "transform": {"outputDimensions": {"c^": [1, ""], "y": scale["y"], "x": scale["x"]}},
    }
    layer = {
        "type": "image",
        "name": slide.name,
        "source": source,
        "shader": SHADER,
        "opacity": 1,
        "blend": "default",
    }
    return {
        "dimensions": dimensions,
        "position": [slide.size.width / 2, slide.size.height / 2],
        # Level-0 px per px of the screen, so that the longer side takes some 800.
        "crossSectionScale": max(slide.size) / 800,
        "layers": [layer],
        "layout": "xy",
        "showAxisLines": False,
    }


def _scale(slide: ServedSlide) -> dict[str, list[Any]]:
    """Return the size of a px along each axis as neuroglancer has it, in metres."""
    if slide.mpp is None:
        return {"x": [1, ""], "y": [1, ""]}
    return {"x": [slide.mpp.x * 1e-6, "m"], "y": [slide.mpp.y * 1e-6, "m"]}


def viewer_links(slide: ServedSlide) -> dict[str, str]:
    """Return the viewers' links by their names."""
    state = quote(json.dumps(neuroglancer_state(slide), separators=(",", ":")), safe="")
    source = quote(slide.url.rstrip("/"), safe="")
    return {
        "neuroglancer": f"{NEUROGLANCER}#!{state}",
        "vizarr": f"{VIZARR}?source={source}",
        "validator": f"{VALIDATOR}?source={source}",
    }
