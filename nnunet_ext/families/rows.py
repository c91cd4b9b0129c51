"""The rows in which a family file describes its networks, their trainers and what only these know. Data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: the two forms of a network, as its trainers build it
SELF_CONFIGURING, PUBLISHED = FORMS = ("self-configuring", "published")


@dataclass(frozen=True)
class Encoder:
    """A part of a network that can start from published weights.

    Args:
        part: as ``load_pretrained`` of the network names it, and as the option of ``nnunet_ext pretrained`` does.
        what: it is, in words.
        timm, torchvision: patterns of the names of fitting encoders on either hub.
        example: a name of timm's.
        windows: it attends in windows, whose size of training goes with the weights.
    """

    part: str
    what: str
    timm: str
    torchvision: str
    example: str
    windows: bool = False


@dataclass(frozen=True)
class Network:
    """A network.

    Args:
        name: as in lists, in plans names (``nnUNet<name>Plans``) and in documentation.
        class_path: of its class, ``"package.module:Class"``.
        options: keyword arguments of the constructor beyond those of nnU-Net's plans.
        built_with: those of the options that make it this network, and their values, where a class builds several.
        minimum_image_channels: the fewest image channels it accepts, previous-stage segmentations not counted.
        resolutions: at which it segments in deep supervision at most; 0: at all but the coarsest of the plan.
        reference_forms: published form -> keyword arguments of ``reference()`` that build it.
        title, doi: of the article.
        licence: of the reference implementation.
        published_parameters: published form -> parameters of the reference implementation, with the parts that its
            forward pass never reaches and that we leave out; ours are measured (``make figures``).
        encoders: that can start from published weights.
        keeps_less_since: version of this plugin from which training keeps less memory, so that older plans of this
            network have smaller patches or batches than new ones.
    """

    name: str
    class_path: str
    options: tuple[str, ...]
    minimum_image_channels: int
    reference_forms: Mapping[str, Mapping[str, Any]]
    title: str
    doi: str
    licence: str
    built_with: Mapping[str, Any] = field(default_factory=dict)
    resolutions: int = 0
    published_parameters: Mapping[str, int] = field(default_factory=dict)
    encoders: tuple[Encoder, ...] = ()
    keeps_less_since: str = ""


@dataclass(frozen=True)
class Trainer:
    """A trainer.

    Args:
        name: for ``-tr``.
        class_path: of its class, ``"package.module:Class"``.
        network: name of the network that it trains.
        summary: one line for lists.
        published: it builds the published network, which no plans change.
        dimensions: of the configurations that it trains.
    """

    name: str
    class_path: str
    network: str
    summary: str
    published: bool = False
    dimensions: tuple[int, ...] = (2, 3)

    @property
    def plans(self) -> str:
        """What it trains on: ``"2d plans"``."""
        return f"{' or '.join(f'{each}d' for each in self.dimensions)} plans"

    @property
    def form(self) -> str:
        return PUBLISHED if self.published else SELF_CONFIGURING


#: in the name of a suffix of a network: a whole number above 0, which its options of this value get
NUMBER = "<N>"


@dataclass(frozen=True)
class NetworkSuffix:
    """A suffix of trainer names that sets options of the network: ``_base`` in ``nnUNetTrainerCFFormer_base``.

    Args:
        name: the suffix without its underscore; letters and digits, and ``<N>`` where a number stands.
        group: suffixes of one group exclude each other; those of the group ``size`` go from the smallest up.
        options: keyword arguments of the network's constructor; ``<N>`` is the number.
        help: what it does, in one line.
        networks: names of the networks whose trainers know it.
        tag: what it adds to the name of plans for that network. Different networks get different tags, so that none
            is trained on plans that were made for another.
        forms: which trainers of these networks know it: a suffix that a form cannot build is none of that form's.
    """

    name: str
    group: str
    options: Mapping[str, Any]
    help: str
    networks: tuple[str, ...]
    tag: str
    forms: tuple[str, ...] = FORMS

    def options_for(self, number: int = 8) -> dict[str, Any]:
        """The options with that number in them; where the name has none, whatever ``number`` is."""
        return {option: number if value == NUMBER else value for option, value in self.options.items()}

    def tag_in(self, options: Mapping[str, Any]) -> str:
        """The tag that these options of a network get from this suffix; empty where they are not of it."""
        numbers = {options.get(option) for option, value in self.options.items() if value == NUMBER}
        (number,) = numbers if len(numbers) == 1 else (None,)
        if numbers and (not isinstance(number, int) or isinstance(number, bool)):
            return ""
        wanted = self.options_for(number or 0)
        return self.tag.replace(NUMBER, str(number)) if wanted.items() <= options.items() else ""


def no_recompute(*networks: str) -> NetworkSuffix:
    """The suffix for networks whose constructor has ``recompute``."""
    text = "keep all activations instead of recomputing some in the backward pass: more memory, a little faster"
    options = {"recompute": False}
    return NetworkSuffix("NoRecompute", "recompute", options, text, networks, "NoRecompute", (SELF_CONFIGURING,))


@dataclass(frozen=True)
class Loss:
    """A loss.

    Args:
        key: as recipes and checkpoints name it.
        class_path: ``"package.module:Class"``, called with ``regions`` and ``ignore_label``.
        suffix: that chooses it in a trainer's name.
        help: one line.
        options: further keyword arguments.
    """

    key: str
    class_path: str
    suffix: str
    help: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """A schedule of the learning rate.

    Args:
        key: as recipes and checkpoints name it.
        function_path: ``"package.module:function"`` of epoch and number of epochs.
        suffix: that chooses it in a trainer's name.
        help: one line.
    """

    key: str
    function_path: str
    suffix: str
    help: str


@dataclass(frozen=True)
class Family:
    """Networks that belong together, and everything that commands, planner and documentation must know of them.

    Args:
        name: of the family's files: ``families/<name>.py``, ``docs/networks/<name>.md``.
        networks, trainers, suffixes, losses, schedules: rows.
    """

    name: str
    networks: tuple[Network, ...]
    trainers: tuple[Trainer, ...]
    suffixes: tuple[NetworkSuffix, ...] = ()
    losses: tuple[Loss, ...] = ()
    schedules: tuple[Schedule, ...] = ()
