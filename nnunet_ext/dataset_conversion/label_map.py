"""How a description tells what becomes of the values of its labels. Data only, as ``description.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LabelMap:
    """How the values of a source label become those of nnU-Net, and back.

    Args:
        names: nnU-Net's ``labels``: name -> value, or a tuple of values for a region.
        forward: source value -> our value, for every value the release may hold.
        regions_class_order: nnU-Net's key of that name; empty for plain labels.
        threshold: for photographs of masks: pixels above it are read as the source value 255, all others as 0.
        ignored: source values that become background, with a count in the report (LAB05).
        hints: source value outside ``forward`` -> the convention it looks like.
        tissues: our value -> name, where ``names`` holds overlapping regions.
        hallmarks: source values of which every label of the release holds at least one. A label with none of them is
            refused (LAB01): its values would be taken for others that the release has too.
        hallmark_hint: the convention that such a label looks like.
    """

    names: Mapping[str, int | tuple[int, ...]]
    forward: Mapping[int, int]
    regions_class_order: tuple[int, ...] = ()
    threshold: int | None = None
    ignored: tuple[int, ...] = ()
    hints: Mapping[int, str] = field(default_factory=dict)
    tissues: Mapping[int, str] = field(default_factory=dict)
    hallmarks: tuple[int, ...] = ()
    hallmark_hint: str = ""

    @property
    def lossy(self) -> bool:
        """Whether two source values share one of ours, so that no way leads back."""
        return len(set(self.forward.values())) < len(self.forward)

    @property
    def inverse(self) -> dict[int, int]:
        """Our value -> source value.

        Raises:
            ValueError: if the map is lossy.
        """
        if self.lossy:
            raise ValueError("a lossy label map has no inverse")
        return {ours: source for source, ours in self.forward.items()}

    @property
    def names_for_json(self) -> dict[str, int | list[int]]:
        """nnU-Net's ``labels`` as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.names.items()}

    @property
    def forward_for_json(self) -> dict[str, int]:
        """Source value, as text, -> our value, in ascending order."""
        return {str(source): ours for source, ours in sorted(self.forward.items())}

    @property
    def classes(self) -> dict[int, str]:
        """Foreground value of ours -> name."""
        if self.tissues:
            return dict(self.tissues)
        return {value: name for name, value in self.names.items() if isinstance(value, int) and value > 0}
