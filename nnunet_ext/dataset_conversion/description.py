"""The words in which a dataset file describes its dataset.

Data only: importing this module, and so every dataset file, imports nothing beyond the standard library. The other
rooms act on these descriptions, the same way for every dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nnunet_ext.dataset_conversion.label_map import LabelMap


@dataclass(frozen=True)
class Pattern:
    """The names of one kind of file.

    ``regex`` must match, whole and whatever the case of its letters, the last components of a path: one component, or
    one more for each ``/`` in it. Its named groups say what the converter should know:

    - ``case``: name of the case (required);
    - ``role``: which file of the case this is (else ``role`` below);
    - ``slice``: number of a slice; the slices of a case are stacked, numbered from 1 without gaps;
    - ``part``: number of one of several masks, which are united;
    - ``group``: the patient; ``stratum``: what the folds should hold equal shares of;
    - ``variant``: which of several forms of the whole release the file is part of, such as cropped or whole images.

    Args:
        regex: the expression.
        role: the role, where the name itself does not say it.
        split: ``"test"`` for cases that are never trained on; empty where the presence of a label decides.
        fallback: the pattern fills ``role`` for a training case that lacks it, if exactly one otherwise unknown file of
            the case's own folder matches (finding NAM03).
        published: a fallback for a name that the publisher is known to have used by mistake: NAM03 is then an info.
    """

    regex: str
    role: str = ""
    split: str = ""
    fallback: bool = False
    published: bool = False


@dataclass(frozen=True)
class Image:
    """One image file of a case: its role in the file names, and nnU-Net's names of the channels it holds."""

    role: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One form that a dataset can be converted to.

    Args:
        dataset_id: default nnU-Net id.
        folder_name: the name after ``DatasetXXX_``.
        file_ending: nnU-Net's ``file_ending``.
        form: how it is made: a key of ``cases.case_forms.FORMS``.
        labels: the label map.
        spacing: (x, y, z) in mm, for sources that have none (finding GEO08); None keeps the source's geometry.
    """

    dataset_id: int
    folder_name: str
    file_ending: str
    form: str
    labels: LabelMap
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """An optional table of the download (csv): what is read from it.

    ``name``, ``key`` and the values of ``columns`` are expressions, matched at the start of the file name and of the
    header's cells (lower case, blanks at the ends cut off). ``columns`` names what is taken: ``stratum`` is used for
    the splits, everything else is kept as another name of the case (the same case in another release).
    """

    name: str
    key: str
    columns: Mapping[str, str]


#: What a choice may decide; the converter knows these, and a dataset says by which option its user decides them.
DECISIONS = {
    "target": "which of the targets is made: a key of them",
    "official_split": "whether the publisher's test cases are test cases, as they are where nothing decides it",
    "normal": "whether cases that show nothing to segment are kept, as they are where nothing decides it",
    "drop_empty_slices": "whether slices whose mask is empty are left out",
    "variant": "which variant of the release is converted, of those that the names of files tell",
    "rescans": "whether second scans of people are kept of whom nobody knows which other cases are theirs",
}

#: Opposite directions of a body -> the letters that stand for them in orientations such as RAS.
DIRECTIONS = {"left-right": "LR", "anterior-posterior": "AP", "inferior-superior": "IS"}


@dataclass(frozen=True)
class Choice:
    """Something that a user may choose with a dataset: an option of ``nnunet_ext convert NAME``.

    Two datasets may define one option differently.

    Args:
        flag: as typed, such as ``--with-normal``. One that is on by default is turned off by ``--no-...``.
        default: what is done where nothing is chosen: True or False for a switch, else one of ``values``.
        help: one line for the command line.
        decides: a key of ``DECISIONS``.
        values: what may be given; empty for a switch.
    """

    flag: str
    default: bool | str
    help: str
    decides: str
    values: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its key in options and records: ``with_normal`` for ``--with-normal``."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset.

    Args:
        name: as typed on the command line.
        title: its full name.
        years_or_release: year, or name of the release.
        cases: published number of cases with labels.
        test_cases: published number of cases without labels in the download; None if unknown or none, and then a case
            without a label is an error. With an ``official_split``: of its test cases, whose labels not every copy of
            the release has.
        licence, citation, doi, download: what the user must know before using it.
        layout: the tree of the download, as text.
        case_name: expression of a case's name.
        patterns: the grammar of file names.
        images: image files of a case, in channel order.
        label: role of the label file.
        targets: what it can be converted to, by key; the first is the default.
        depth: number of folders between the top of the download and its files.
        shape: published shape (x, y, z) of the images; None if they differ.
        tables: optional tables.
        strata_folders: folder names that give a case's stratum where no table does.
        patients: case name -> patient, or group of repeated pictures, for cases whose name does not tell.
        equal_channels: case name -> channels that the publisher filled with a copy of another one.
        extras: expressions of other files of the download that are known and not needed.
        family: datasets of one family may share cases (SPL04).
        case_id: case name -> nnU-Net identifier; by default the name with every odd character replaced.
        submission_name: name of a prediction for a case without a source label; ``{case}`` stands for the case's name.
        official_split: case name -> ``"train"`` or ``"test"``, where the publisher divided the labelled cases.
        normal: stratum of the cases that show nothing to segment.
        normal_cases: their published number, which is part of ``cases``.
        near_duplicates: pictures whose difference hashes differ in at most this many of 64 bits count as repeats of one
            another (DUP04) and stay in one fold; None where this is not measured.
        sizes: expression of the name of a json file, case name -> ``width`` and ``height``, compared with the pictures
            where it is there.
        rescans: cases that are second scans of people in the data, of whom nobody knows which other case is theirs.
        no_mirror: keys of ``DIRECTIONS`` along which images must not be mirrored, since the labels tell the sides
            apart. Only for targets of form ``volume``, whose files say how they lie.
        choices: what the user may choose with this dataset alone.
    """

    name: str
    title: str
    years_or_release: str
    cases: int
    test_cases: int | None
    licence: str
    citation: tuple[str, ...]
    doi: tuple[str, ...]
    download: str
    layout: str
    case_name: str
    patterns: tuple[Pattern, ...]
    images: tuple[Image, ...]
    label: str
    targets: Mapping[str, Target]
    depth: int
    shape: tuple[int, int, int] | None = None
    tables: tuple[Table, ...] = ()
    strata_folders: tuple[str, ...] = ()
    patients: Callable[[], Mapping[str, str]] | None = None
    equal_channels: Callable[[], Mapping[str, tuple[str, ...]]] | None = None
    extras: tuple[str, ...] = ()
    family: str = ""
    case_id: Callable[[str], str] | None = None
    submission_name: str = "{case}.nii.gz"
    official_split: Callable[[], Mapping[str, str]] | None = None
    normal: str = ""
    normal_cases: int = 0
    near_duplicates: int | None = None
    sizes: str = ""
    rescans: tuple[str, ...] = ()
    no_mirror: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels in nnU-Net's order."""
        return tuple(channel for image in self.images for channel in image.channels)

    @property
    def default_target(self) -> Target:
        return next(iter(self.targets.values()))

    def choice(self, decides: str) -> Choice | None:
        """The choice that decides one of ``DECISIONS``."""
        return next((choice for choice in self.choices if choice.decides == decides), None)

    def role_name(self, role: str) -> str:
        """What a message calls a role: the channel for an image of one channel, else the role itself."""
        for image in self.images:
            if image.role == role and len(image.channels) == 1:
                return image.channels[0]
        return role
