"""What users' own unit tests pay for `import supervisor`."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_api_imports_nothing_heavy() -> None:
    heavy = {"pika", "psutil", "sqlite3", "click", "rich", "setproctitle", "pythonjsonlogger", "asyncio"}
    code = f"import sys, supervisor; print(sorted({heavy!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"
