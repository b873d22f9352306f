"""The way into a network that is kept up finds the run that it is printed for."""

import re
import shutil
import subprocess
import sys

import pytest

from scenarios.keep import _way_in


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="this machine lacks pgrep")
@pytest.mark.parametrize("name", ["plain", "x[nics=2,hash=layer3+4]", "a (b) $c"])
def test_the_way_in_finds_its_run(tmp_path, name):
    out = tmp_path / name
    words = ["-m", "scenarios.runner", "--scenario", f"{out}/scenario.yaml"]
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE) as process:
        found = re.search(r"\$\((pgrep .*)\)", _way_in(out)[1])
        assert found
        said = subprocess.run(["sh", "-c", found[1]], capture_output=True, text=True, timeout=10).stdout
        process.kill()
    assert said.split() == [str(process.pid)]
