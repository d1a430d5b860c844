"""Variables that bring a secret to the configuration stay in the master: user code does not find them."""

from __future__ import annotations

from pathlib import Path

from tests.support.site import make_site
from tests.support.waiting import eventually

TOKEN = "0123456789abcdef0123"
_HANDLER = """
import os
from pathlib import Path
def run(message):
    names = " ".join(sorted(os.environ))
    (Path(__file__).parent / "told").write_text(names + " " + str("%s" in str(dict(os.environ))))
"""


def test_handlers_do_not_get_the_variable_with_the_web_pages_token(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text() + '[web]\ntoken = "${WEB_TOKEN}"\n')
        (tmp_path / "site_handler.py").write_text(_HANDLER % TOKEN)
        assert site.cli("start", WEB_TOKEN=TOKEN, OTHER="x").returncode == 0
        assert site.cli("publish", "mail", stdin="x\n", WEB_TOKEN=TOKEN).returncode == 0
        told = eventually(lambda: (tmp_path / "told").exists() and (tmp_path / "told").read_text(), "it ran")

    assert "OTHER" in told.split()
    assert "WEB_TOKEN" not in told.split()
    assert told.endswith(" False")
