"""Trainers for nnU-Net's ``-tr``. ``registry`` lists them, ``base`` holds what they share, ``variants`` reads suffixes.

Importing this package imports nothing: nnU-Net's search and ``nnunet_ext list`` stay fast.
"""
