"""CFNet: two encoders for two groups of image channels."""

from __future__ import annotations

from nnunet_ext.families.rows import Encoder, Family, Loss, Network, Schedule, Trainer, no_recompute

FAMILY = Family(
    name="cfnet",
    networks=(
        Network(
            name="CFNet",
            class_path="nnunet_ext.architectures.cfnet:CFNet",
            options=("stream_channels", "cascade_channels", "recompute"),
            minimum_image_channels=2,
            reference_forms={"reference": {}},
            title="CFNet: Automatic multi-modal brain tumor segmentation through hierarchical coarse-to-fine fusion "
            "and feature communication",
            doi="10.1016/j.bspc.2024.106876",
            licence="none named; written anew, none of its code is used",
            encoders=(Encoder("cnn", "convolutional encoder", "resnet*", "resnet*", "resnet50.a1_in1k"),),
            keeps_less_since="0.3.0",
        ),
    ),
    trainers=(
        Trainer(
            "nnUNetTrainerCFNet",
            "nnunet_ext.trainers.cfnet:nnUNetTrainerCFNet",
            "CFNet",
            "self-configuring CFNet, 2D and 3D, two image channels or more; nnU-Net's own training",
        ),
        Trainer(
            "nnUNetTrainerCFNet_paper",
            "nnunet_ext.trainers.cfnet:nnUNetTrainerCFNet_paper",
            "CFNet",
            "CFNet as published: 2D, four image channels, the authors' loss and schedule",
            published=True,
            dimensions=(2,),
        ),
    ),
    suffixes=(no_recompute("CFNet"),),
    losses=(
        Loss("cfnet_paper", "nnunet_ext.trainers.cfnet_loss:DiceFocalLoss", "DiceFocal", "CFNet's Dice + focal loss"),
        Loss(
            "cfnet_paper_coded_focal",
            "nnunet_ext.trainers.cfnet_loss:DiceFocalLoss",
            "CodedDiceFocal",
            "the same with the focal term as CFNet's authors coded it",
            {"coded_focal": True},
        ),
    ),
    schedules=(
        Schedule(
            "cfnet_paper",
            "nnunet_ext.trainers.cfnet_schedule:cfnet_paper",
            "Exponential",
            "CFNet's exponential decay of the learning rate",
        ),
    ),
)
