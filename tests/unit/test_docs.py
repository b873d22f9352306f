"""What the pages show: commands that teambed takes, paths that are there, CI files that are YAML."""

import re
from pathlib import Path

import pytest
import yaml

from scenarios import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"\./teambed ([a-z][^`#\n]*)")
PATH = re.compile(r"(?:scenarios|host_agent|controller|topologies|tests|benchmarks|docs)/[\w./*-]+\.\w+")
FILE = re.compile(r"`([\w*]+\.(?:py|c|yaml|md))`")

OF_A_RUN = ("scenario.yaml",)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page):
    """As far as argparse can tell."""
    for written in COMMAND.findall(page.read_text()):
        words = re.split(r"\s{2,}", written.replace("…", "").rstrip(" ;,.)"))[0].split()
        if words[0] != "test":
            takes_more = words[0] in ("run", "validate", "up", "report") and len(words) == 1
            cli._parser().parse_args([*words, *(["FILE"] if takes_more else [])])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_is_there(page):
    """With its folder, or by its name alone."""
    ours = [*ROOT.glob("*/*"), *ROOT.glob("*/*/*"), *ROOT.glob("*/*/*/*")]
    for path in PATH.findall(page.read_text()):
        assert list(ROOT.glob(path)), f"{page.name} names {path}"
    for name in FILE.findall(page.read_text()):
        assert any(file.match(name) for file in ours) or name in OF_A_RUN, f"{page.name} names {name}"


def test_the_files_for_ci_are_yaml():
    text = (ROOT / "docs" / "ci.md").read_text()
    github, gitlab = map(yaml.safe_load, FENCED.findall(text))
    (steps,) = (job["steps"] for job in github["jobs"].values())
    said = [[step["run"].removeprefix("sudo ") for step in steps if "run" in step], gitlab["scenarios"]["script"]]
    assert said[0] == said[1], "both run the same"
