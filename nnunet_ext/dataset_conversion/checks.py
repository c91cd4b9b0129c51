"""The table of checks: what a converter looks for, how severe a finding is, and whether the user may let it pass."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class Check:
    """One row. ``allowable``: ``--allow CODE`` turns this error into a warning."""

    code: str
    severity: str
    meaning: str
    allowable: bool = False


CHECKS: tuple[Check, ...] = (
    Check("LAY01", "error", "source not found, or no known layout below it"),
    Check("LAY02", "error", "layouts of two datasets match; name one"),
    Check("LAY03", "warning", "extra nesting or a doubled folder was skipped"),
    Check("LAY04", "info", "the same tree twice with equal content; the shallower one is used"),
    Check("LAY05", "error", "the same tree twice with different content"),
    Check("NAM01", "error", "a required file (a modality, a mask) of a case is missing"),
    Check("NAM02", "error", "two files claim the same role of one case"),
    Check(
        "NAM03",
        "warning",
        "a role is filled by a file of another name (info where the publisher named it so: BraTS 2020, case 355)",
    ),
    Check("NAM04", "error", "two cases get the same identifier"),
    Check("NAM05", "warning", "the case in a file's name is not the one in its folder's name"),
    Check("NAM06", "warning", "cases are taken as test cases because nothing in their part of the source has a label"),
    Check("CNT01", "warning", "the number of cases differs from the published one"),
    Check("CNT02", "error", "no training case at all, or fewer than two where splits are asked for"),
    Check("DUP01", "info", "a case occurs twice with equal content; one is used"),
    Check("DUP02", "error", "a case occurs twice with different content (allowed: the first is kept)", allowable=True),
    Check("DUP03", "warning", "exact duplicate images (info where known); their cases stay in one fold"),
    Check("DUP04", "warning", "near-duplicate pictures (info where known); their cases stay in one fold"),
    Check("DUP05", "error", "a case is there in several variants of the release, and none of them was named"),
    Check("SLC01", "error", "gap, repetition or impossible number among the slices of a case"),
    Check("CSV01", "warning", "an optional table is missing or unreadable; its strata or names are not used"),
    Check("CSV02", "error", "the given table of groups lacks a case, has one twice, or cannot be read"),
    Check("GZ01", "error", "a compressed file ends early or fails its CRC or length check"),
    Check("IO01", "error", "a file cannot be decoded, or does not hold what its name or header says"),
    Check("IO02", "error", "an empty file, or a Git LFS pointer or web page in place of data"),
    Check(
        "SIZ01",
        "error",
        "a volume has far more voxels than those of its dataset (allowed: it takes as much memory as it needs)",
        allowable=True,
    ),
    Check(
        "SIZ02",
        "error",
        "a picture, or all slices of a case together, has more pixels than is read (allowed: it takes as much memory "
        "as it needs)",
        allowable=True,
    ),
    Check("SIZ03", "error", "a picture's file is larger than its pixels can make it (allowed)", allowable=True),
    Check("MEM01", "error", "the memory does not suffice for a case"),
    Check("GEO01", "error", "shape differs between the images of a case"),
    Check("GEO02", "error", "the shape of the label differs from that of the image"),
    Check(
        "GEO03",
        "error",
        "spacing differs by more than 1e-3 (relative); allowed: that of the first image is written",
        allowable=True,
    ),
    Check(
        "GEO04",
        "error",
        "origin differs by more than 1e-2 mm or direction by more than 1e-3 (info if less: the geometry of "
        "the first image is written)",
        allowable=True,
    ),
    Check("GEO05", "error", "not a 3D image, or an axis of length 1"),
    Check("GEO06", "error", "axes that are not orthogonal, or zero spacing: nnU-Net's reader refuses these"),
    Check("GEO07", "warning", "shape differs from the published one"),
    Check("GEO08", "warning", "the source has no spacing; unit spacing is written"),
    Check("GEO09", "warning", "left and right, which must not be mirrored, are not along the same axis in all images"),
    Check("DT01", "error", "complex, colour or bit-packed voxels, or a label with fractional values"),
    Check("DT02", "info", "a label stored as float with whole values; written as integers"),
    Check("DT03", "info", "label values off a whole number by no more than their storage explains; rounded"),
    Check("NAN01", "error", "NaN or infinity in an image (allowed: replaced by 0 and counted)", allowable=True),
    Check("LAB01", "error", "a label value outside the release's set"),
    Check(
        "LAB02", "warning", "a label is all background (info where nothing is to be seen), or becomes so by resizing"
    ),
    Check(
        "LAB03",
        "error",
        "a mask that is neither binary nor nearly so, or whose shape is in alpha or in colours that are equally bright",
    ),
    Check("LAB04", "info", "a class is absent from a case"),
    Check("LAB05", "info", "known values without meaning were set to 0"),
    Check("LAB06", "info", "a mask holds values between 0 and 255, as JPEG leaves them; those above 127 count"),
    Check("LAB07", "info", "several masks of one picture were united"),
    Check("LAB08", "warning", "a label, or one of several masks of a case, is foreground everywhere"),
    Check(
        "LAB09",
        "warning",
        "two thirds of a label or more are foreground, as in an inverted mask (info where its edge is not)",
    ),
    Check("LAB10", "warning", "more than half of the labels of the dataset are mostly foreground: inverted?"),
    Check("IMG01", "error", "an image is constant", allowable=True),
    Check(
        "IMG02",
        "warning",
        "two images of one case are identical (info where the publisher is known to have replaced one)",
    ),
    Check("IMG03", "info", "alpha channel dropped, or palette or grey expanded to colour"),
    Check("IMG04", "warning", "an EXIF orientation is ignored; pixels are left as stored"),
    Check("SPL01", "error", "fewer groups than folds"),
    Check("SPL02", "error", "a split is empty, names an unknown case, or has one in training and validation"),
    Check("SPL03", "warning", "a stratum has fewer members than there are folds"),
    Check("SPL04", "warning", "cases are shared with another dataset in nnUNet_raw"),
    Check("SPL05", "warning", "the official test set shares groups with the training cases"),
    Check("SPL06", "warning", "the preprocessed folder holds another splits_final.json; nnU-Net will stop there"),
    Check("SPL07", "warning", "a given split leaves cases out, or validates one in several folds"),
    Check("SPL08", "warning", "the given table of groups divides a patient who is known to have several cases"),
    Check("SPL09", "warning", "cases are in no part of the official split; they are training cases"),
    Check("SPL10", "error", "second scans of unknown people would be trained on, and nobody says whose they are"),
    Check("OUT01", "error", "the output folder was not made by this converter, or is the source itself"),
    Check("OUT02", "error", "the dataset id is impossible, or taken by a dataset of another name"),
    Check("OUT03", "error", "not enough free space"),
    Check("OUT04", "error", "the output cannot be written"),
    Check(
        "OUT05",
        "error",
        "the conversion in the folder had another source, other files, other options or another version",
    ),
    Check("OUT06", "warning", "the preprocessed folder holds a fingerprint of an earlier conversion"),
    Check("OUT07", "error", "another conversion to the same id is running"),
    Check(
        "ARC01",
        "error",
        "an archive cannot be read: damaged, sparse, or compressed in a way that Python has not "
        "(allowed: one that lies beside the data is left out)",
        allowable=True,
    ),
    Check("ARC02", "error", "a member of an archive has a name that leads outside or that no file system takes"),
    Check(
        "ARC03",
        "error",
        "a member of an archive is a device, or a link other than a hard link to an earlier file of it",
    ),
    Check("ARC04", "error", "an archive would expand beyond the limit, or holds members without number"),
    Check(
        "ARC05", "error", "an archive is encrypted (allowed: one that lies beside the data is left out)", allowable=True
    ),
    Check(
        "ARC06",
        "error",
        "rar, 7z, parts of a split archive, and an archive in three others cannot be opened "
        "(allowed: one that lies beside the data is left out)",
        allowable=True,
    ),
)

BY_CODE = {check.code: check for check in CHECKS}


@dataclass(frozen=True)
class Finding:
    """One thing a check found. ``severity`` is the table's unless the finder knows better."""

    code: str
    message: str
    case: str = ""
    file: str = ""
    remedy: str = ""
    severity: str = ""

    def __post_init__(self) -> None:
        if not self.severity:
            object.__setattr__(self, "severity", BY_CODE[self.code].severity)

    @classmethod
    def of(cls, error: UserError, case: str = "") -> Finding:
        """The finding that a coded ``UserError`` stands for."""
        if error.code not in BY_CODE:
            raise error
        return cls(error.code, error.message, case, error.file or "", error.remedy or "")

    def error(self, more: str = "") -> UserError:
        return UserError(self.message + more, file=self.file or None, remedy=self.remedy or None, code=self.code)

    def line(self) -> str:
        """The finding in one line, as printed and reported."""
        return f"{self.severity} {self.error()}"


@dataclass(frozen=True)
class Policy:
    """What the user lets pass. ``strict`` makes errors of warnings; ``allow`` makes warnings of allowable errors."""

    strict: bool = False
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for code in self.allow:
            check = BY_CODE.get(code)
            if check is None:
                raise UserError(f'--allow: unknown check "{code}"', remedy="docs/checks.md lists the codes")
            if check.severity == "error" and not check.allowable:
                codes = ", ".join(check.code for check in CHECKS if check.allowable)
                raise UserError(
                    f"--allow: {code} cannot be allowed", remedy=f"only {codes} and, with --strict, warnings can"
                )

    def apply(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings with the severity that counts."""
        return [replace(finding, severity=self._severity(finding)) for finding in findings]

    def _severity(self, finding: Finding) -> str:
        severity = finding.severity
        if severity == "warning" and self.strict:
            severity = "error"
        if severity == "error" and finding.code in self.allow:
            severity = "warning"
        return severity


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def raise_first(findings: Iterable[Finding], where: str) -> None:
    """Raise the first error, saying how many more there are and ``where`` all of them can be seen.

    Raises:
        UserError: if there is an error among the findings.
    """
    bad = errors(findings)
    if bad:
        more = {1: "", 2: " (and one more error)"}.get(len(bad), f" (and {len(bad) - 1} more errors)")
        remedy = "; ".join(part for part in (bad[0].remedy, where) if part)
        raise replace(bad[0], remedy=remedy).error(more)


def count_by_code(findings: Collection[Finding]) -> dict[str, int]:
    """How often each code occurs, in the order of the table."""
    return {
        check.code: number for check in CHECKS if (number := sum(finding.code == check.code for finding in findings))
    }
