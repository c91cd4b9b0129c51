"""What a document read from a file must look like before anything in it is used.

A form is a function that takes a value and where it stands, and raises ``FormError`` where the value is something else.
Forms are put together: ``list_of(whole)`` is the form of a list of whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.files import MAX_JSON_BYTES, is_case_name, is_component, is_path_below, read_json

Form = Callable[[Any, str], None]

_SHOWN = 40


class FormError(ValueError):
    """A value is not of its form; the text says where it stands, what it is and what it should be."""


def read_document(file: Path, form: Form, kind: str, remedy: str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file that is of a form.

    Args:
        file: where it lies.
        form: what it must look like.
        kind: what it should be, such as "a dataset.json of nnU-Net".
        remedy: what to do where it is something else.
        max_bytes: that it may have.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no JSON, or of another form.
    """
    content = read_json(file, max_bytes)
    check_form(content, form, kind, file, remedy)
    return content


def check_form(content: Any, form: Form, kind: str, file: Path | str, remedy: str) -> None:
    """
    Raises:
        UserError: ``content``, which comes from ``file``, is of another form.
    """
    try:
        form(content, "")
    except FormError as error:
        raise UserError(f"not {kind}: {error}", file=file, remedy=remedy) from error


def fail(value: Any, where: str, expected: str) -> FormError:
    """The error for a value, which the text shows shortened."""
    kinds = {dict: "an object", list: "a list", type(None): "null"}
    shown = kinds.get(type(value)) or repr(value)
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "..."
    return FormError(f"{where or 'the document'} is {shown}, not {expected}")


def anything(value: Any, where: str) -> None:
    """Every value of JSON."""


def _simple(test: Callable[[Any], bool], expected: str) -> Form:
    def form(value: Any, where: str) -> None:
        if not test(value):
            raise fail(value, where, expected)

    return form


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) and abs(value) < 1 << 1000) or (isinstance(value, float) and math.isfinite(value))


real = _simple(lambda value: _is_number(value) or isinstance(value, float), "a number")  # also nan and infinity
text = _simple(lambda value: isinstance(value, str), "text")
boolean = _simple(lambda value: isinstance(value, bool), "true or false")
whole = _simple(_is_whole, "a whole number")
count = _simple(lambda value: _is_whole(value) and 0 <= value < 1 << 63, "a whole number from 0 on")
number = _simple(_is_number, "a number")
positive = _simple(lambda value: _is_number(value) and value > 0, "a number above 0")
digits = _simple(
    lambda value: isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10, "digits"
)
whole_float = _simple(
    lambda value: isinstance(value, float) and value.is_integer() and 0 <= value < 1e9, "a whole number"
)
case_name = _simple(is_case_name, "the name of a single case")
component = _simple(is_component, "the name of a single file or folder")
path_below = _simple(is_path_below, "a path that stays inside its folder")
identifier = _simple(
    lambda value: isinstance(value, str) and value.isidentifier() and not value.startswith("_"), "the name of a class"
)
file_ending = _simple(lambda value: is_component(value) and value.startswith("."), "a file ending such as .nii.gz")


def one_of(values: Collection[Any]) -> Form:
    return _simple(lambda value: isinstance(value, str) and value in values, f"one of {', '.join(map(str, values))}")


def either(*forms: Form) -> Form:
    """The first form that holds is enough; otherwise the error is the last one's."""

    def form(value: Any, where: str) -> None:
        for each in forms[:-1]:
            try:
                return each(value, where)
            except FormError:
                continue
        return forms[-1](value, where)

    return form


def optional(form: Form) -> Form:
    """The form, or null."""
    return lambda value, where: None if value is None else form(value, where)


def between(low: int, high: int) -> Form:
    """A whole number from ``low`` to ``high``, both included."""
    return _simple(lambda value: _is_whole(value) and low <= value <= high, f"a whole number from {low} to {high}")


def number_between(low: float, high: float) -> Form:
    """A number from ``low`` to ``high``, both included."""
    return _simple(lambda value: _is_number(value) and low <= value <= high, f"a number from {low:g} to {high:g}")


def list_of(form: Form, length: int | None = None, nonempty: bool = False, at_most: int | None = None) -> Form:
    """A list, of ``length`` items or of ``at_most`` as many where that is given."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise fail(value, where, "a list")
        if nonempty and not value:
            raise FormError(f"{where or 'the document'} is empty")
        if length is not None and len(value) != length:
            raise FormError(f"{where} has {len(value)} items, not {length}")
        if at_most is not None and len(value) > at_most:
            raise FormError(f"{where} has {len(value)} items, more than {at_most}")
        for index, item in enumerate(value):
            form(item, f"{where}[{index}]")

    return check


def mapping(key: Form, value: Form, nonempty: bool = False) -> Form:
    """An object whose keys and values are of these forms."""

    def check(found: Any, where: str) -> None:
        if not isinstance(found, dict):
            raise fail(found, where, "an object")
        if nonempty and not found:
            raise FormError(f"{where or 'the document'} is empty")
        for name, item in found.items():
            key(name, f"a key of {where or 'the document'}")
            value(item, _below(where, name))

    return check


def record(required: Mapping[str, Form], allowed: Mapping[str, Form] | None = None, others: bool = True) -> Form:
    """An object with these keys.

    Args:
        required: keys that must be there.
        allowed: keys that may be there.
        others: whether further keys are passed over; otherwise they are an error.
    """
    known = {**(allowed or {}), **required}

    def check(found: Any, where: str) -> None:
        if not isinstance(found, dict):
            raise fail(found, where, "an object")
        for name in required:
            if name not in found:
                raise FormError(f"{where or 'the document'} has no {name}")
        for name, item in found.items():
            if name in known:
                known[name](item, _below(where, name))
            elif not others:
                raise FormError(f"{where or 'the document'} has the unknown key {name[:_SHOWN]!r}")

    return check


def _below(where: str, name: str) -> str:
    name = name if len(name) <= _SHOWN else name[:_SHOWN] + "..."
    return f"{where}.{name}" if where else name
