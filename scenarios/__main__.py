"""`python -m scenarios` is the command line."""

import sys

from scenarios.cli import main

sys.exit(main())
