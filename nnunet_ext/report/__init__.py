"""Figures drawn from nnU-Net's folders and from the tables of ``nnunet_ext.evaluation``."""
