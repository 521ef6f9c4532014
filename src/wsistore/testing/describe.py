"""The texts that scanners write into a TIFF: Aperio's description and OME-XML."""

from __future__ import annotations

from collections.abc import Sequence

from wsistore.geometry import Size

USER = "canary-user-7f3a"
FILE_NAME = "canary-file-41c9"
DATE = "canary-date-11/12/13"
HOST = "canary-host-90d2"

CANARIES = (USER, FILE_NAME, DATE, HOST)
"""Private values that a slide carries, and that nothing derived from it may carry."""

_VERSION = "Aperio Image Library v11.2.1 \r\n"


def aperio_baseline(
    size: Size, tile: int, encoding: str, *, magnification: str | None, mpp: str | None
) -> str:
    """Return the ImageDescription of the first page."""
    head = f"{_VERSION}{size.width}x{size.height} [0,0 {size.width}x{size.height}] ({tile}x{tile})"
    return "|".join([f"{head} {encoding}", *aperio_fields(size, magnification, mpp)])


def aperio_fields(size: Size, magnification: str | None, mpp: str | None) -> list[str]:
    """Return the ``key = value`` fields that follow the head, private ones among them."""
    fields = {
        "AppMag": magnification,
        "StripeWidth": "2040",
        "ScanScope ID": HOST,
        "Filename": FILE_NAME,
        "Date": DATE,
        "Time": "03:04:05",
        "User": USER,
        "Parmset": "USM Filter",
        "MPP": mpp,
        "Left": "25.691574",
        "Top": "23.449873",
        "ImageID": "1004486",
        "OriginalWidth": str(size.width),
        "Originalheight": str(size.height),
    }
    return [f"{key} = {value}" for key, value in fields.items() if value is not None]


def aperio_reduced(size: Size, tile: int | None, reduced: Size, encoding: str) -> str:
    """Return the ImageDescription of a reduced level, or of the thumbnail (no tile)."""
    head = f"{_VERSION}{size.width}x{size.height} [0,0 {size.width}x{size.height}]"
    tiles = "" if tile is None else f" ({tile}x{tile})"
    return f"{head}{tiles} -> {reduced.width}x{reduced.height} {encoding}"


def aperio_associated(name: str, size: Size) -> str:
    """Return the ImageDescription of the label or the macro."""
    return f"{_VERSION}{name} {size.width}x{size.height}"


def ome_xml(
    images: Sequence[tuple[str, Size, int]], *, magnification: str | None, mpp: str | None
) -> str:
    """Return OME-XML (2016-06) for images (name, size, channels), one IFD each.

    The pixel size and the magnification belong to the first image alone.
    """
    instrument = ""
    if magnification is not None:
        instrument = (
            '<Instrument ID="Instrument:0"><Objective ID="Objective:0" '
            f'NominalMagnification="{magnification}"/></Instrument>'
        )
    physical = ""
    if mpp is not None:
        physical = "".join(
            f' PhysicalSize{axis}="{mpp}" PhysicalSize{axis}Unit="µm"' for axis in "XY"
        )
    body = [
        _ome_image(index, image, physical if index == 0 else "", index == 0 and bool(instrument))
        for index, image in enumerate(images)
    ]
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{schema}" Creator="wsistore.testing">'
        f'<Experimenter ID="Experimenter:0" UserName="{USER}"/>'
        f"{instrument}{''.join(body)}</OME>"
    )


def _ome_image(index: int, image: tuple[str, Size, int], physical: str, objective: bool) -> str:
    name, size, channels = image
    settings = '<ObjectiveSettings ID="Objective:0"/>' if objective else ""
    return (
        f'<Image ID="Image:{index}" Name="{name}">{settings}'
        f'<Pixels ID="Pixels:{index}" DimensionOrder="XYCZT" Type="uint8" SizeX="{size.width}" '
        f'SizeY="{size.height}" SizeC="{channels}" SizeZ="1" SizeT="1" '
        f'Interleaved="true"{physical}>'
        f'<Channel ID="Channel:{index}:0" SamplesPerPixel="{channels}"/>'
        f'<TiffData IFD="{index}" PlaneCount="1"/></Pixels></Image>'
    )
