"""Networks, one file each. The tables that name them are views of ``nnunet_ext.families``."""
