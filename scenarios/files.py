"""The folders of a run's results for the files of its commands: one for each service and traffic, and one for steps.

Decides their place: below the run directory, by a link, for a command names its folder unquoted, and the results may be
in a folder with spaces. Never touches what commands write there.
"""

from pathlib import Path


class Files:
    """`run_dir` is the sandbox's own, `out` that of the results. Makes nothing until a folder is asked for."""

    def __init__(self, run_dir: Path, out: Path) -> None:
        self._link, self._folder = run_dir / "files", out / "files"

    def of(self, name: str = "") -> Path:
        """The folder of that service or traffic, or the one around them all."""
        self._folder.mkdir(exist_ok=True)
        if not self._link.is_symlink():
            self._link.symlink_to(self._folder)
        folder = self._link / name
        folder.mkdir(exist_ok=True)
        return folder
