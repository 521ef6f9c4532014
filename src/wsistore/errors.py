"""The one error tree of wsistore.

Errors are grouped by what a handler would do, and each class has a stable code; codes
are only ever added. A message says what failed, on which thing, what was seen against
what was expected, and what to do about it::

    WsistoreError
    ├── UsageError            WSI100  the call is wrong: change the call        (ValueError)
    │   ├── ResolutionError   WSI101  that resolution can't be had from this slide
    │   └── NotReadyError     WSI102  something must be called before        (RuntimeError)
    ├── DependencyError       WSI110  an optional package is missing: install it (ImportError)
    ├── SourceError           WSI200  bytes could not be had                     (OSError)
    │   ├── SourceNotFoundError  WSI201  no such file or object
    │   ├── SourceAccessError    WSI202  not allowed to read it
    │   ├── SourceRangeError     WSI203  fewer bytes than asked for
    │   ├── SourceChangedError   WSI204  the file changed while it was in use
    │   └── SourceUnavailableError  WSI205  a server failed, or not in time  (ConnectionError)
    ├── SlideError            WSI300  this slide can't be used as it is
    │   ├── UnsupportedSlideError  WSI301  not a format, or not a variant, that is read here
    │   ├── CorruptSlideError      WSI302  the container's structure is broken
    │   ├── MetadataError          WSI303  a value is missing or absurd: state it
    │   └── AnnotationError        WSI304  an annotation file can't be used as it is
    ├── TileError             WSI400  one encoded tile has no pixels to give
    │   ├── MissingTileError       WSI401  the file holds no bytes for it
    │   ├── DamagedTileError       WSI402  its bytes don't decode to what the slide promises
    │   └── UnsupportedCodecError  WSI403  no decoder for its compression
    ├── StoreError            WSI500  a store can't be written or trusted
    │   ├── StoreExistsError       WSI501  the destination is taken
    │   ├── StoreMismatchError     WSI502  an unfinished or finished store was made otherwise
    │   ├── StoreLockedError       WSI503  another run is writing it
    │   ├── StoreCorruptError      WSI504  its bytes are not those that were written
    │   ├── StoreWriteError        WSI505  writing failed (disk full, not permitted)  (OSError)
    │   ├── IncompleteError        WSI506  some of many items failed     (RuntimeError)
    │   └── StoreUnfinishedError   WSI507  it is not all written yet
    └── EncoderError          WSI600  a model can't be used as it is
        ├── WeightsError           WSI601  its weights are unsafe, damaged or of another model
        └── DeviceError            WSI602  the device is absent, or too small for one tile
"""

from __future__ import annotations

from typing import ClassVar


class WsistoreError(Exception):
    """Base of every error that wsistore raises on purpose.

    Parameters
    ----------
    message : str
        What failed, on which thing, seen against expected.
    hint : str, optional
        What to do about it.

    Attributes
    ----------
    code : str
        Stable code of the class, for logs and scripts.
    """

    code: ClassVar[str] = "WSI000"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[WsistoreError], message: str, hint: str) -> WsistoreError:
    return cls(message, hint=hint)


class UsageError(WsistoreError, ValueError):
    """The call is wrong; change the call."""

    code = "WSI100"


class ResolutionError(UsageError):
    """The resolution that was asked for can't be had from this slide."""

    code = "WSI101"


class NotReadyError(UsageError, RuntimeError):
    """Something else must be called before; the hint names it."""

    code = "WSI102"


class DependencyError(WsistoreError, ImportError):
    """An optional package is missing; the hint names the extra that brings it."""

    code = "WSI110"


class SourceError(WsistoreError, OSError):
    """Bytes could not be had from a file or object."""

    code = "WSI200"


class SourceNotFoundError(SourceError, FileNotFoundError):
    """There is no such file or object."""

    code = "WSI201"


class SourceAccessError(SourceError, PermissionError):
    """The file or object may not be read."""

    code = "WSI202"


class SourceRangeError(SourceError):
    """A read gave fewer bytes than asked for, or asked beyond the end."""

    code = "WSI203"


class SourceChangedError(SourceError):
    """The file or object is not the one that was opened."""

    code = "WSI204"


class SourceUnavailableError(SourceError, ConnectionError):
    """A server can't be reached, or keeps failing, or did not answer in time; try later."""

    code = "WSI205"


class SlideError(WsistoreError):
    """This slide can't be used as it is."""

    code = "WSI300"


class UnsupportedSlideError(SlideError):
    """Not a format, or not a variant of one, that is read here."""

    code = "WSI301"


class CorruptSlideError(SlideError):
    """The structure of the container is broken."""

    code = "WSI302"


class MetadataError(SlideError):
    """A value that is needed is missing or absurd."""

    code = "WSI303"


class AnnotationError(SlideError):
    """An annotation file is of no format that is read here, or an element of it is broken."""

    code = "WSI304"


class TileError(WsistoreError):
    """One encoded tile has no pixels to give."""

    code = "WSI400"


class MissingTileError(TileError):
    """The file holds no bytes for this tile."""

    code = "WSI401"


class DamagedTileError(TileError):
    """The bytes of this tile don't decode to what the slide promises."""

    code = "WSI402"


class UnsupportedCodecError(TileError):
    """There is no decoder for the compression of this tile."""

    code = "WSI403"


class StoreError(WsistoreError):
    """A store can't be written or trusted."""

    code = "WSI500"


class StoreExistsError(StoreError):
    """The destination is taken."""

    code = "WSI501"


class StoreMismatchError(StoreError):
    """What is there was made from another source or with other settings."""

    code = "WSI502"


class StoreLockedError(StoreError):
    """Another run is writing this store."""

    code = "WSI503"


class StoreCorruptError(StoreError):
    """The bytes of a store are not those that were written."""

    code = "WSI504"


class StoreWriteError(StoreError, OSError):
    """Writing failed: the disk is full, or it is not permitted."""

    code = "WSI505"


class IncompleteError(StoreError, RuntimeError):
    """Some of many items could not be written; the others were."""

    code = "WSI506"


class StoreUnfinishedError(StoreError):
    """What is asked for is not all written yet; the run that began it can be resumed."""

    code = "WSI507"


class EncoderError(WsistoreError):
    """A model can't be used as it is."""

    code = "WSI600"


class WeightsError(EncoderError):
    """Weights are unsafe to load, damaged, or of another model."""

    code = "WSI601"


class DeviceError(EncoderError):
    """The device is absent, or has too little memory for a single tile."""

    code = "WSI602"
