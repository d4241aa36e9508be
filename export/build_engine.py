#!/usr/bin/env python3
"""Build an engine: `python export/build_engine.py --preset dtfsal --output DIR`; the same as `dtfsal build`."""

import sys

from dtfsal.export.cli.build import main

if __name__ == "__main__":
    sys.exit(main())
