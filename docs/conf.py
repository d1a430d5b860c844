"""The site: every page as it stands in the repository, built by Sphinx (`make docs`).

The pages are plain Markdown, so that a forge shows them as well: no directive and no role is used. The order of the
pages is here and not in them. Sphinx reads from the root of the repository, so that one relative link serves both.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

NAVIGATION: dict[str, list[str]] = {
    "Tutorial": ["docs/tutorial"],
    "How to": [
        "docs/how-to/publish",
        "docs/how-to/inbox",
        "docs/how-to/django",
        "docs/how-to/sqlalchemy",
        "docs/how-to/middleware",
        "docs/how-to/sentry",
        "docs/containers",
        "docs/how-to/rabbitmq-rights",
        "docs/how-to/warm-standby",
        "docs/how-to/partitions",
        "docs/how-to/sizing",
    ],
    "Coming from": [
        "docs/comparison",
        "docs/coming-from/celery",
        "docs/coming-from/dramatiq",
        "docs/coming-from/rq",
        "docs/coming-from/supervisord",
        "docs/coming-from/horizon",
        "docs/coming-from/sidekiq",
    ],
    "Reference": [
        "docs/configuration",
        "docs/handlers",
        "docs/client",
        "docs/exits",
        "docs/operations",
        "docs/fleet",
        "docs/web",
        "docs/metrics",
        "docs/hooks",
        "docs/control-protocol",
        "docs/glossary",
    ],
    "Explanation": [
        "docs/guarantees",
        "docs/when-not",
        "docs/field-cases",
        "docs/architecture",
        "docs/decisions/README",
    ],
    "Project": ["README", "CHANGELOG", "CONTRIBUTING", "benchmarks/README", "docs/releasing"],
}
"""Caption: the pages below it, without suffix. A page that is in no list, and a listed page that is missing, fails the
build.
"""

SHORT_TITLES = {
    "README": "README",
    "docs/tutorial": "Ten minutes",
    "docs/how-to/publish": "Publish from a web application",
    "docs/how-to/inbox": "Effects in a database, once",
    "docs/how-to/django": "Django",
    "docs/how-to/sqlalchemy": "SQLAlchemy",
    "docs/how-to/middleware": "Around each run",
    "docs/how-to/sentry": "Sentry",
    "docs/how-to/rabbitmq-rights": "Rights of the RabbitMQ user",
    "docs/how-to/warm-standby": "Two hosts, one as a standby",
    "docs/how-to/partitions": "Many hosts, a queue each",
    "docs/how-to/sizing": "Sizing",
    "docs/coming-from/celery": "Celery",
    "docs/coming-from/dramatiq": "dramatiq",
    "docs/coming-from/rq": "RQ",
    "docs/coming-from/supervisord": "supervisord",
    "docs/coming-from/horizon": "Laravel, Horizon",
    "docs/coming-from/sidekiq": "Sidekiq",
    "docs/when-not": "When not to use it",
    "docs/operations": "Operations",
    "docs/fleet": "A fleet of hosts",
    "docs/web": "Web page and API",
}
"""Page: its name in the navigation, where its own title is too long there or says nothing."""

ROOT = Path(__file__).resolve().parents[1]

project = "preforkd"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/index"
include_patterns = ["docs/**.md", "*.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "dist", "tests", "supervisor", "workers", "etc"]

myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # JSON with alternatives ("ok|held"), commands with `…`

html_theme = "furo"
html_title = f"preforkd {release}"
html_copy_source = False
html_show_copyright = False
html_additional_pages = {"index": "redirect.html"}  # the pages keep their folder: the site's root leads to docs/
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]


def add_navigation(_app: Any, page: str, source: list[str]) -> None:
    """Append what only the site needs: the tables of contents of the first page, and the list of decisions."""
    if page == root_doc:
        source[0] += "".join(_table_of_contents(pages, caption) for caption, pages in NAVIGATION.items() if pages)
    if page == "docs/decisions/README":
        decisions = sorted(path.stem for path in (ROOT / "docs/decisions").glob("[0-9]*.md"))
        source[0] += _table_of_contents([f"docs/decisions/{name}" for name in decisions])


def _table_of_contents(pages: list[str], caption: str = "") -> str:
    lines = [":hidden:", f":caption: {caption}"] if caption else []
    entries = [f"{SHORT_TITLES[page]} </{page}>" if page in SHORT_TITLES else f"/{page}" for page in pages]
    return "\n".join(["", "", "```{toctree}", *lines, "", *entries, "```", ""])


def setup(app: Any) -> None:
    """Called by Sphinx with its application."""
    app.connect("source-read", add_navigation)
