"""Where a planning run puts things, and what it says of each slide."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wsistore.durable import Outcome
from wsistore.engine.outlets import Outlet, PathLike
from wsistore.errors import WsistoreError

if TYPE_CHECKING:
    from wsistore.engine.planning import PlanningOptions
    from wsistore.tiles.plan import TilePlan


@dataclass(frozen=True, slots=True)
class PlanFiles:
    """Names of a run's files.

    Parameters
    ----------
    outlet : Outlet
        Where they go.
    keep_plans : bool
        Whether results carry their plans, so that nobody has to read them again.
    """

    outlet: Outlet
    keep_plans: bool = False

    @property
    def folder(self) -> Path:
        """Folder in which they are built: that of the run, or a temporary one."""
        return self.outlet.folder

    @property
    def place(self) -> PathLike:
        """Path or URL of the run."""
        return self.outlet.place

    @property
    def visualization(self) -> Path:
        """Folder of overlays."""
        return self.folder / "visualization"

    @property
    def cells(self) -> Path:
        """Hidden folder of the small pictures that contact sheets are made of."""
        return self.visualization / ".cells"

    def patches(self, stem: str) -> Path:
        """File of the coordinates of a slide."""
        return self.folder / "patches" / f"{stem}.h5"

    def images(self, stem: str) -> Path:
        """Folder of the tiles of a slide as pictures."""
        return self.folder / "images" / stem

    def mask(self, stem: str) -> Path:
        """File of the mask of a slide."""
        return self.folder / "masks" / f"{stem}.png"

    def contours(self, stem: str) -> Path:
        """File of the contours of a slide."""
        return self.folder / "contours" / f"{stem}.geojson"

    def picture(self, stem: str, kind: str) -> Path:
        """File of an overlay: of ``"grids"``, ``"mask"`` or ``"contours"``."""
        return self.visualization / f"{stem}{'' if kind == 'grids' else '_' + kind}.png"

    def cell(self, stem: str) -> Path:
        """File of the small picture of a slide."""
        return self.cells / f"{stem}.jpg"

    def root(self, stem: str, *, planned: bool) -> Path:
        """File whose presence says that a slide is finished: it comes last."""
        return self.patches(stem) if planned else self.contours(stem)

    def others(self, stem: str) -> list[Path]:
        """All other files of a slide that may have been made, but for its tiles."""
        mask = self.mask(stem)
        pictures = [self.picture(stem, kind) for kind in ("grids", "mask", "contours")]
        return [mask, mask.with_suffix(".json"), *pictures, self.cell(stem)]

    def make(self, options: PlanningOptions) -> None:
        """Make the folders that a run needs, and see what killed runs left in them."""
        wanted = [self.folder]
        if options.spec is None:
            wanted += [self.folder / "masks", self.folder / "contours"]
        else:
            wanted += [self.folder / "patches"]
        if options.pictures:
            wanted += [self.visualization]
        if options.contact_sheet:
            wanted += [self.cells]
        for place in wanted:
            place.mkdir(parents=True, exist_ok=True)
        self.outlet.find_leftovers(wanted)


@dataclass(frozen=True)
class SlideResult:
    """What became of one slide.

    Parameters
    ----------
    path, name : str
        The slide, as it may be shown (a URL without its signature), and its stem.
    status : {"done", "skipped", "failed"}
        ``"skipped"``: nothing was missing, or another run is at it.
    tiles : int or None
        Of the plan; None where there is none.
    tissue : float or None
        Fraction of the slide that is tissue; None where it was not looked at.
    pieces : int or None
        Contours of tissue.
    size : (width, height) or None
        Level-0 px.
    mpp : float or None
        µm per level-0 px.
    mpp_origin : str
        Who said so.
    files : tuple of Path or str
        Written or found; URLs where they are in a bucket.
    seconds : float
        Spent on it.
    detail : str
        One line for people.
    error : WsistoreError or None
        Why it failed.
    plan : TilePlan or None
        Its tiles, where they were asked for.
    """

    path: str
    name: str
    status: Literal["done", "skipped", "failed"] = "done"
    tiles: int | None = None
    tissue: float | None = None
    pieces: int | None = None
    size: tuple[int, int] | None = None
    mpp: float | None = None
    mpp_origin: str = ""
    files: tuple[PathLike, ...] = ()
    seconds: float = 0.0
    detail: str = ""
    error: WsistoreError | None = None
    plan: TilePlan | None = field(default=None, repr=False, compare=False)

    @property
    def outcome(self) -> Outcome:
        """The same in short."""
        code = "" if self.error is None else self.error.code
        return Outcome(self.path, self.status, code, self.detail)

    @property
    def is_odd(self) -> bool:
        """Whether somebody should look at it: it has no tile, or no tissue."""
        return self.status != "failed" and (self.tiles == 0 or self.pieces == 0)
