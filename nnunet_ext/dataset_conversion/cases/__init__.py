"""From a case to files of nnU-Net: pixels and voxels are checked and written."""
