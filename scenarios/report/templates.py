"""The templates of pages. Decides how they are read: all is escaped, and a name that is missing is an error."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

HERE = Path(__file__).parent


@cache
def template(name: str, folder: Path = HERE) -> Template:
    """That of a folder; it may include what is in this one: `head.html.j2` is every page's.

    Read once: that takes four times as long as to fill it.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.get_template("head.html.j2")
    return environment.get_template(name)
