"""`python -m benchmarks` is `teambed bench`. While it is imported, Ctrl-C ends it at once."""

import sys

from scenarios.__main__ import begin

if __name__ == "__main__":
    sys.exit(begin("benchmarks.cli"))
