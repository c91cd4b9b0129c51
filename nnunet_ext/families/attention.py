"""U-Nets and V-Nets with attention: many networks of two classes, which differ in the attention they are built with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnunet_ext.families.rows import (
    NUMBER,
    PUBLISHED,
    SELF_CONFIGURING,
    Family,
    Loss,
    Network,
    NetworkSuffix,
    Schedule,
    Trainer,
    no_recompute,
)

OPTIONS = (
    "attention",
    "gate",
    "patch_size",
    "channel_reduction",
    "slice_reduction",
    "channel_pooling",
    "slice_pooling",
    "detach_descriptor",
    "pooling_reference_quirks",
    "recompute",
)
PAM_TITLE, PAM_DOI = "Progressive Attention Module for Segmentation of Volumetric Medical Images", "10.1002/mp.15369"
PAM_LICENCE = "none named; written anew, none of its code is used"
FROM_ARTICLE = "built from the article's formulas"


@dataclass(frozen=True)
class Kind:
    """An attention mechanism, in a U-Net, a V-Net or both.

    Args:
        prefix: of the names of its networks.
        attention: name of its block (``architectures/blocks/attention/``).
        text: what it is, in the words of lists.
        unet, vnet: whether there is such a network.
        published_unet, published_vnet: class of the reference implementation; empty: it has none.
        title, doi, licence: of the article and the reference implementation.
        gate: every skip passes an attention gate.
    """

    prefix: str
    attention: str
    text: str
    unet: bool = True
    vnet: bool = False
    published_unet: str = ""
    published_vnet: str = ""
    title: str = PAM_TITLE
    doi: str = PAM_DOI
    licence: str = PAM_LICENCE
    gate: bool = False


KINDS = (
    Kind(
        "PAM",
        "pam",
        "the progressive module: slice attention, key slices, then channel attention",
        vnet=True,
        published_unet="agscSEUNet3D",
        published_vnet="agscSEVNet",
    ),
    Kind(
        "SE",
        "se",
        "squeeze-and-excitation: channel attention",
        vnet=True,
        published_unet="cSEUNet3D",
        published_vnet="cSEVNet",
        title="Squeeze-and-Excitation Networks",
        doi="10.48550/arXiv.1709.01507",
    ),
    Kind(
        "CSA",
        "csa",
        "channel attention, then slice attention",
        vnet=True,
        published_unet="csSEUNet3D",
        published_vnet="csSEVNet",
    ),
    Kind(
        "SCA",
        "sca",
        "slice attention, then channel attention",
        vnet=True,
        published_unet="scSEUNet3D",
        published_vnet="scSEVNet",
    ),
    Kind(
        "PE",
        "pe",
        "project & excite: attention from profiles along each axis",
        published_unet="PEUNet3d",
        title="Project & Excite Modules for Segmentation of Volumetric Medical Scans",
        doi="10.48550/arXiv.1906.04649",
    ),
    Kind(
        "",
        "none",
        "residual stages, no attention",
        unet=False,
        vnet=True,
        published_vnet="VNet",
        title="V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation",
        doi="10.48550/arXiv.1606.04797",
    ),
    Kind(
        "AG",
        "none",
        "an attention gate on every skip",
        title="Attention U-Net: Learning Where to Look for the Pancreas",
        doi="10.48550/arXiv.1804.03999",
        licence="MIT; written anew, none of its code is used",
        gate=True,
    ),
    Kind(
        "CBAM",
        "cbam",
        "channel attention, then spatial attention",
        title="CBAM: Convolutional Block Attention Module",
        doi="10.48550/arXiv.1807.06521",
        licence=FROM_ARTICLE,
    ),
    Kind(
        "SplitAttention",
        "split",
        "split attention in the place of each stage's second convolution",
        title="ResNeSt: Split-Attention Networks",
        doi="10.48550/arXiv.2004.08955",
        licence=FROM_ARTICLE,
    ),
    Kind(
        "DualAttention",
        "dual",
        "position and channel self-attention behind the deepest stage",
        title="Dual Attention Network for Scene Segmentation",
        doi="10.48550/arXiv.1809.02983",
        licence=FROM_ARTICLE,
    ),
    Kind(
        "CAM",
        "cam",
        "class activation maps weigh the deepest stage",
        title="Learning Deep Features for Discriminative Localization",
        doi="10.1109/CVPR.2016.319",
        licence=FROM_ARTICLE,
    ),
    Kind(
        "STN",
        "stn",
        "a spatial transformer in front, its inverse behind",
        title="Spatial Transformer Networks",
        doi="10.48550/arXiv.1506.02025",
        licence=FROM_ARTICLE,
    ),
)


def _network(kind: Kind, backbone: str, published: str) -> Network:
    forms: dict[str, dict[str, Any]] = {published: {"network": published}} if published else {}
    if published == "agscSEUNet3D":
        forms["with gates"] = {"network": published, "attention_gate": True}
    return Network(
        name=f"{kind.prefix}{backbone}",
        class_path=f"nnunet_ext.architectures.attention_{backbone.lower()}:Attention{backbone}",
        options=OPTIONS,
        built_with={"attention": kind.attention, **({"gate": True} if kind.gate else {})},
        minimum_image_channels=1,
        reference_forms=forms,
        title=kind.title,
        doi=kind.doi,
        licence=kind.licence,
    )


def _trainers(kind: Kind, backbone: str, published: str) -> tuple[Trainer, ...]:
    network = f"{kind.prefix}{backbone}"
    name = f"nnUNetTrainer{network}"
    title = {"UNet": "U-Net", "VNet": "V-Net"}[backbone]
    own = Trainer(
        name,
        f"nnunet_ext.trainers.attention:{name}",
        network,
        f"self-configuring {title}, 2D and 3D: {kind.text}",
    )
    if not published:
        return (own,)
    paper = Trainer(
        f"{name}_paper",
        f"nnunet_ext.trainers.attention:{name}_paper",
        network,
        f"{published} as in the authors' code: 3D, four levels; their loss, optimizer and schedule",
        published=True,
        dimensions=(3,),
    )
    return own, paper


ANATOMYNET = Network(
    name="AnatomyNet",
    class_path="nnunet_ext.architectures.anatomynet:AnatomyNet",
    options=("recompute",),
    minimum_image_channels=1,
    resolutions=2,
    reference_forms={"reference": {}},
    title="AnatomyNet: Deep learning for fast and fully automated whole-volume segmentation of head and neck anatomy",
    doi="10.1002/mp.13300",
    licence="Apache-2.0; written anew, none of its code is used",
)

BUILT = tuple((kind, "UNet", kind.published_unet) for kind in KINDS if kind.unet) + tuple(
    (kind, "VNet", kind.published_vnet) for kind in KINDS if kind.vnet
)
NETWORKS = tuple(_network(*built) for built in BUILT)


def _names(*attentions: str) -> tuple[str, ...]:
    return tuple(row.name for row in NETWORKS if row.built_with["attention"] in attentions)


SLICES = _names("pam", "csa", "sca")
#: of them, those with a published form
PUBLISHED_SLICES = tuple(row.name for row in NETWORKS if row.name in SLICES and row.reference_forms)
#: that have gates in their published form too, and the others that are built without
GATED_AS_PUBLISHED = ("PAMUNet",)
UNGATED = tuple(row.name for row in NETWORKS if "gate" not in row.built_with and row.name not in GATED_AS_PUBLISHED)
_GATE = "an attention gate on every skip"
#: attention -> what ``_reduction<N>`` makes of its hidden width
HIDDEN_WIDTHS = {
    "se": "channels over N",
    "pe": "channels over N",
    "cbam": "channels over N",
    "split": "twice the channels over N, 32 at least",
    "dual": "of position attention, a quarter of the channels over N",
}


def _reduction(text: str, networks: tuple[str, ...], *options: str) -> NetworkSuffix:
    said = f"hidden widths of attention: {text}"
    tag = f"Reduction{NUMBER}"
    return NetworkSuffix(
        f"reduction{NUMBER}", "reduction", dict.fromkeys(options, NUMBER), said, networks, tag, (SELF_CONFIGURING,)
    )


def _pooling(name: str, value: str, text: str) -> tuple[NetworkSuffix, ...]:
    def row(networks: tuple[str, ...], *options: str) -> NetworkSuffix:
        tag = name.capitalize()
        return NetworkSuffix(name, "pooling", dict.fromkeys(options, value), text, networks, tag, (SELF_CONFIGURING,))

    return row(SLICES, "channel_pooling", "slice_pooling"), row(_names("se"), "channel_pooling")


FAMILY = Family(
    name="attention",
    networks=(*NETWORKS, ANATOMYNET),
    trainers=(
        *(row for built in BUILT for row in _trainers(*built)),
        Trainer(
            "nnUNetTrainerAnatomyNet",
            "nnunet_ext.trainers.attention:nnUNetTrainerAnatomyNet",
            "AnatomyNet",
            "residual squeeze-and-excitation at half resolution, 2D and 3D: one downsampling, widths as published",
        ),
    ),
    suffixes=(
        NetworkSuffix("gate", "gate", {"gate": True}, _GATE, GATED_AS_PUBLISHED, "Gate"),
        NetworkSuffix("gate", "gate", {"gate": True}, _GATE, UNGATED, "Gate", (SELF_CONFIGURING,)),
        _reduction("channels over N, slices over N", SLICES, "channel_reduction", "slice_reduction"),
        *(_reduction(text, _names(name), "channel_reduction") for name, text in HIDDEN_WIDTHS.items()),
        NetworkSuffix(
            f"depth{NUMBER}",
            "depth",
            {"depth": NUMBER},
            "slice attention for N slices, such as a published checkpoint has; interpolated for the patch's depth",
            PUBLISHED_SLICES,
            f"Depth{NUMBER}",
            (PUBLISHED,),
        ),
        *_pooling("poolingmax", "max", "attention reads maxima instead of means"),
        *_pooling("poolingboth", "avg_and_max", "attention reads means and maxima"),
        no_recompute(*(row.name for row in (*NETWORKS, ANATOMYNET))),
    ),
    losses=(
        Loss(
            "pam_paper",
            "nnunet_ext.trainers.attention_loss:WeightedDiceCrossEntropyLoss",
            "FeedbackDiceCE",
            "Dice and cross-entropy whose classes weigh more the worse they were in the epoch before",
        ),
    ),
    schedules=(
        Schedule(
            "pam_paper",
            "nnunet_ext.trainers.attention_schedule:pam_paper",
            "Step",
            "a tenth of the learning rate after each eighth of the training",
        ),
    ),
)
