"""`python -m controller --config FILE`: checks the configuration, then hands over to the Ryu app."""

from __future__ import annotations

import argparse
import sys

from controller import config
from controller.checks import Mistake


def main() -> int:
    """Run until SIGTERM. Returns 2 when the configuration is wrong or an address is taken."""
    parser = argparse.ArgumentParser(prog="controller", description="teambed's OpenFlow controller")
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration, JSON")
    options = parser.parse_args()
    try:
        settings = config.load(options.config)
    except Mistake as error:
        print(f"controller: {error}", file=sys.stderr)
        return 2
    from controller.app import run  # Ryu takes half a second to import: only when there is something to run

    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
