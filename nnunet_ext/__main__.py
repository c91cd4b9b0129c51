"""``python -m nnunet_ext``: the same as the console command."""

import sys

from nnunet_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
