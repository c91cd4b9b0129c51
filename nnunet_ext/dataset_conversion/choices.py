"""What a dataset lets its user choose, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_ext.dataset_conversion.description import Choice, Dataset
from nnunet_ext.errors import UserError

#: Name of a choice -> what the user gave. A choice that is absent has its default.
Chosen = Mapping[str, bool | str]


def chosen(dataset: Dataset, given: Chosen, decides: str) -> bool | str | None:
    """What was chosen for one of ``description.DECISIONS``; None where the dataset leaves no choice."""
    choice = dataset.choice(decides)
    return None if choice is None else given.get(choice.name, choice.default)


def in_full(dataset: Dataset, given: Chosen) -> dict[str, bool | str]:
    """Every choice of a dataset by name, with the defaults filled in."""
    return {choice.name: given.get(choice.name, choice.default) for choice in dataset.choices}


def check_choices(dataset: Dataset, given: Chosen) -> None:
    """
    Raises:
        UserError: for a choice that the dataset does not offer, or a value that is none of it.
    """
    offered = {choice.name: choice for choice in dataset.choices}
    for name, value in given.items():
        if name not in offered:
            raise no_such_choice(dataset, f"--{name.replace('_', '-')}")
        _check_value(dataset, offered[name], value)


def no_such_choice(dataset: Dataset, flag: str) -> UserError:
    """The error for an option that other datasets may have, but this one has not."""
    own = ", ".join(choice.flag for choice in dataset.choices)
    return UserError(
        f"{flag} is no option of {dataset.name}", remedy=f"its own options: {own}" if own else "leave it out"
    )


def check_none(given: Chosen) -> None:
    """Refuse choices where no dataset is named: what they mean is for a dataset to say.

    Raises:
        UserError: if there are any.
    """
    for name in given:
        raise UserError(
            f"auto takes no option of a single dataset, such as --{name.replace('_', '-')}",
            remedy="give the dataset's name instead of auto",
        )


def _check_value(dataset: Dataset, choice: Choice, value: bool | str) -> None:
    if choice.values:
        if value not in choice.values:
            what = "form" if choice.decides == "target" else "value"
            raise UserError(
                f'{choice.flag}: {dataset.name} has no {what} "{value}"', remedy=f"one of {', '.join(choice.values)}"
            )
    elif not isinstance(value, bool):
        raise UserError(f"{choice.flag} is a switch, and {value!r} is neither on nor off", remedy="leave the value out")
