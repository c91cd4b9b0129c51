"""Names as a user types them: which known ones are spelled much like an unknown one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Share of letters that two names have in common, as difflib counts: "cfnett" and "CFNet" 0.91, "kvasir" and
# "kvasir-seg" 0.8.
_SIMILAR = 0.5


def plain(name: str) -> str:
    """A name without what does not matter in names: case, ``-`` and ``_``."""
    return name.casefold().replace("-", "").replace("_", "")


def close_names(name: str, known: Iterable[str], max_names: int = 3) -> list[str]:
    """The known names that are spelled most like ``name``, the closest first; none where nothing is near."""
    spelled: dict[str, list[str]] = {}
    for each in known:
        spelled.setdefault(plain(each), []).append(each)
    close = get_close_matches(plain(name), spelled, n=max_names, cutoff=_SIMILAR)
    return [each for key in close for each in spelled[key]][:max_names]


def did_you_mean(name: str, known: Iterable[str], remedy: str) -> str:
    """The remedy for an unknown name, such as ``"did you mean CFNet or CFFormer? 'nnunet_ext list networks' ..."``.

    Args:
        name: as the user typed it.
        known: all names that would do.
        remedy: what helps in any case; it stands alone where no known name is near.
    """
    near = close_names(name, known)
    return f"did you mean {' or '.join(near)}? {remedy}" if near else remedy
