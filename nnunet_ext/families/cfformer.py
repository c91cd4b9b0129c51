"""CFFormer: a convolutional and a Swin V2 encoder, fused level by level."""

from __future__ import annotations

from typing import Any

from nnunet_ext.families.rows import (
    FORMS,
    PUBLISHED,
    SELF_CONFIGURING,
    Encoder,
    Family,
    Loss,
    Network,
    NetworkSuffix,
    Schedule,
    Trainer,
    no_recompute,
)

#: options of the network that the paper's ablation switches
PARTS = ("use_cnn", "use_transformer", "use_cfca", "use_xff")


def _size(name: str, text: str, forms: tuple[str, ...] = FORMS) -> NetworkSuffix:
    return NetworkSuffix(name, "size", {"preset": name}, text, ("CFFormer",), name.capitalize(), forms)


def _parts(name: str, used: tuple[bool, ...], text: str) -> NetworkSuffix:
    """A row of the paper's ablation: which parts are built."""
    return NetworkSuffix(name, "parts", dict(zip(PARTS, used, strict=True)), text, ("CFFormer",), name)


def _choice(name: str, group: str, options: dict[str, Any], text: str) -> NetworkSuffix:
    """A choice of the authors for the self-configuring form; each has a group of its own, so that they combine."""
    return NetworkSuffix(name, group, options, f"{text}, as published", ("CFFormer",), name, (SELF_CONFIGURING,))


FAMILY = Family(
    name="cfformer",
    networks=(
        Network(
            name="CFFormer",
            class_path="nnunet_ext.architectures.cfformer:CFFormer",
            options=(
                "preset",
                "xff_kernel",
                "full_resolution_skip",
                "window",
                "transformer_wide_skips",
                "upsample_last",
                "attend_to_padding",
                "use_cnn",
                "use_transformer",
                "use_cfca",
                "use_xff",
                "drop_path",
                "recompute",
            ),
            minimum_image_channels=1,
            reference_forms={size: {"size": size} for size in ("tiny", "small", "base")},
            title="CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved "
            "Segmentation of Heterogeneous Medical Images",
            doi="10.48550/arXiv.2501.03629",
            licence="unknown; a copy of the authors' code is in U-Bench, Apache-2.0; none of its code is used",
            encoders=(
                Encoder("cnn", "convolutional encoder", "resnet*", "resnet*", "resnet34.a1_in1k"),
                Encoder(
                    "transformer",
                    "transformer",
                    "swinv2_*",
                    "swin_v2_*",
                    "swinv2_tiny_window8_256.ms_in1k",
                    windows=True,
                ),
            ),
            keeps_less_since="0.3.0",
            published_parameters={"tiny": 99_564_987, "small": 120_950_859, "base": 186_355_849},
        ),
    ),
    trainers=(
        Trainer(
            "nnUNetTrainerCFFormer",
            "nnunet_ext.trainers.cfformer:nnUNetTrainerCFFormer",
            "CFFormer",
            "self-configuring CFFormer, 2D and 3D; nnU-Net's training with AdamW and warm-up",
        ),
        Trainer(
            "nnUNetTrainerCFFormer_paper",
            "nnunet_ext.trainers.cfformer:nnUNetTrainerCFFormer_paper",
            "CFFormer",
            "CFFormer as in what is very likely its authors' code: 2D, 224 x 224; recipe as an article reports it",
            published=True,
            dimensions=(2,),
        ),
    ),
    suffixes=(
        _size("tiny", "Swin V2-T, the default", (PUBLISHED,)),
        _size("small", "the small transformer (default; of the published form Swin V2-S)"),
        _size("base", "the base transformer, Swin V2-B in 2D"),
        _size("large", "in 3D: wider and deeper than base", (SELF_CONFIGURING,)),
        _parts("CNNOnly", (True, False, False, False), "the convolutional encoder alone"),
        _parts("TransformerOnly", (False, True, False, False), "the transformer, below two convolutional levels"),
        _parts("PlainFusion", (True, True, False, False), "both encoders joined by concatenation and a convolution"),
        _parts("CFCAOnly", (True, True, True, False), "with the exchange of channels, without crossed convolutions"),
        _parts("XFFOnly", (True, True, False, True), "with crossed convolutions, without the exchange of channels"),
        _choice(
            "TransformerWideSkips",
            "skip width",
            {"transformer_wide_skips": True},
            "skips as wide as the transformer",
        ),
        _choice(
            "UpsampleLast",
            "decoder order",
            {"upsample_last": True},
            "a decoder that convolves before it up-samples",
        ),
        _choice(
            "AttendToPadding",
            "padding",
            {"window": 8, "attend_to_padding": True},
            "in 2D: windows of 8 whose padding is attended to",
        ),
        no_recompute("CFFormer"),
    ),
    losses=(
        Loss(
            "cfformer_paper",
            "nnunet_ext.trainers.cfformer_loss:DiceCrossEntropyLoss",
            "HalfDiceCE",
            "half Dice and half cross-entropy, as an article reports of CFFormer",
        ),
    ),
    schedules=(
        Schedule(
            "warmup_poly",
            "nnunet_ext.trainers.cfformer_schedule:warmup_poly",
            "WarmupPoly",
            "linear warm-up over the first 10 of 130 epochs, then nnU-Net's polynomial decay",
        ),
    ),
)
