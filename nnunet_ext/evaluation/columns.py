"""Which metrics an evaluation computes: chosen by name, at tolerances, under the rules of a challenge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.lesions import CHALLENGES, lesion_metrics
from nnunet_ext.evaluation.metrics import HD95_SURFEL, METRICS, TOLERANCES, Metric, surface_dice_at
from nnunet_ext.lookup import did_you_mean, plain
from nnunet_ext.shown import abridged

#: the names of ``--metrics`` that stand for one column for each tolerance
AT_TOLERANCES = {"NSD": False, "NSD_counted": True}
#: Dice and its twin, the HD95 of most papers, and the boundary metric that Metrics Reloaded advises by default
DEFAULT_NAMES = ("Dice", "IoU", "HD95", "NSD")
_LESIONS = tuple(metric.name for metric in lesion_metrics(CHALLENGES["GLI"]))


@dataclass(frozen=True)
class Columns:
    """A choice of metrics, as plain data that can be sent to a worker and compared with that of a run before.

    Attributes:
        names: of metrics, as ``--metrics`` takes them.
        tolerances: of the surface Dice, in mm or pixels.
        challenge: key of ``CHALLENGES`` whose lesion-wise scores are added; none if empty.
        pixels: the images are pictures, and distances in pixels.
    """

    names: tuple[str, ...] = DEFAULT_NAMES
    tolerances: tuple[float, ...] = tuple(TOLERANCES)
    challenge: str = ""
    pixels: bool = False

    def metrics(self) -> tuple[Metric, ...]:
        """The rows of the table, in its order."""
        chosen = list(self._rows())
        if self.challenge:
            chosen += [] if HD95_SURFEL in chosen else [HD95_SURFEL]
            chosen += lesion_metrics(CHALLENGES[self.challenge])
        return tuple(map(_in_pixels, chosen) if self.pixels else chosen)

    def of_pictures(self) -> Columns:
        """The same metrics with distances in pixels."""
        return replace(self, pixels=True)

    def _rows(self) -> Iterator[Metric]:
        wanted = set(self.names)
        for metric in METRICS:
            if not metric.name.startswith("NSD") and metric.name in wanted:
                yield metric
        for name, counted in AT_TOLERANCES.items():
            if name in wanted:
                yield from (surface_dice_at(tolerance, counted) for tolerance in self.tolerances)


def known_names() -> tuple[str, ...]:
    """Every name that ``--metrics`` takes, but for ``all``."""
    return (*(metric.name for metric in METRICS if not metric.name.startswith("NSD")), *AT_TOLERANCES)


def choose_columns(
    names: list[str] | None = None, tolerances: list[float] | None = None, challenge: str | None = None
) -> Columns:
    """What a user asks for.

    Raises:
        UserError: an unknown metric or challenge, or a tolerance that is none.
    """
    challenge = _challenge(challenge) if challenge else ""
    if tolerances is not None and not all(0 < tolerance < 1e6 for tolerance in tolerances):
        raise UserError("a tolerance is a distance above 0", remedy="give such as --tolerance 1 2")
    asked = names or list(DEFAULT_NAMES)
    if tolerances is not None and "NSD" not in map(_named, asked) and "NSD_counted" not in map(_named, asked):
        raise UserError("no metric that is asked for has a tolerance", remedy="add NSD to --metrics")
    found: list[str] = []
    for name in asked:
        found += [known for known in (known_names() if name == "all" else (_named(name),)) if known not in found]
    return Columns(tuple(found), tuple(dict.fromkeys(tolerances or TOLERANCES)), challenge)


def _named(name: str) -> str:
    if name == "all":
        return "NSD"  # which is among them
    spelled = {plain(known): known for known in known_names()}
    if plain(name) in spelled:
        return spelled[plain(name)]
    if plain(name) in map(plain, _LESIONS):
        raise UserError(f"{name} belongs to the rules of a challenge", remedy=f"add --brats {next(iter(CHALLENGES))}")
    if "@" in name:
        raise UserError(
            f"the tolerance of '{abridged(name)}' stands elsewhere", remedy="give --metrics NSD --tolerance 1 2"
        )
    raise UserError(
        f"there is no metric '{abridged(name)}'",
        remedy=did_you_mean(name, known_names(), f"choose from {', '.join(known_names())}, all"),
    )


def _challenge(name: str) -> str:
    if name.upper() not in CHALLENGES:
        raise UserError(
            f"there is no BraTS challenge '{abridged(name)}'",
            remedy=did_you_mean(name, CHALLENGES, f"choose from {', '.join(CHALLENGES)}"),
        )
    return name.upper()


def _in_pixels(metric: Metric) -> Metric:
    units = {"mm": "pixels", "mm3": "pixels2"}
    return replace(
        metric,
        name=metric.name.replace("mm", "px") if "@" in metric.name else metric.name,
        unit=units.get(metric.unit, metric.unit),
        formula=metric.formula.replace(" mm", " pixels"),
    )
