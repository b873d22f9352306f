"""What unit tests share: a real Chromium and a look at what it made of a page, and somebody who is not root."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OVERLAPS = """<script>
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const boxes = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  boxes.forEach(([a, one], i) => boxes.slice(i + 1).forEach(([b, two]) => {
    const x = Math.min(one.right, two.right) - Math.max(one.left, two.left);
    const y = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
    if (x > 1 && y > 3) found.push(a + " / " + b);
  }));
  const edge = svg.getBoundingClientRect();
  for (const [a, box] of boxes) if (box.left < edge.left - 1 || box.right > edge.right + 1) found.push(a + " / edge");
}
if (document.documentElement.scrollWidth > innerWidth) found.push("the page is wider than the window");
document.body.setAttribute("data-overlaps", found.join("; ") || "none");
</script>"""


@pytest.fixture
def render(tmp_path: Path, require: Callable[..., None]) -> Callable[..., tuple[str, str]]:
    """render(file, width) → the document as Chromium has it, and what it complained about."""
    require("chromium")

    def act(file: Path, width: int = 1400) -> tuple[str, str]:
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000"]
        words += ["--host-resolver-rules=MAP * ~NOTFOUND", f"file://{file}"]
        done = subprocess.run(["chromium", *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    return act


@pytest.fixture
def alone(tmp_path: Path, render: Callable[..., tuple[str, str]]) -> Callable[[Path], str]:
    """alone(file) → the document as Chromium has it: a page that needs nothing else, and is whole at any width."""

    def overlaps(file: Path, width: int) -> str:
        plain = re.sub(r"<meta http-equiv=[^>]*>", "", file.read_text()).replace("</body>", OVERLAPS + "</body>")
        measured = tmp_path / "measured.html"
        measured.write_text(plain)
        seen = re.search(r'data-overlaps="([^"]*)"', render(measured, width)[0])
        assert seen is not None
        return seen.group(1)

    def act(file: Path) -> str:
        text = file.read_text()
        assert "<script" not in text
        assert not re.findall(r'(?:src|href)="(?!data:|#)|url\(|@import', text), "it loads something"
        assert len(text) < 400_000
        shown, complaints = render(file)
        assert complaints == ""
        for width in (1400, 800):
            assert overlaps(file, width) == "none", f"at {width} pixels"
        return shown

    return act


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter; other calls of pytest take that back for `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def as_nobody() -> list[str]:
    """What to call a program with, so that it is not root; nothing where we are not."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("this machine lacks setpriv")
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
