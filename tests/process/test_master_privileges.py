"""Giving up root: for good, with the groups of the account, and before any child is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import json, os
from supervisor.config.schema import DaemonConfig
from supervisor.master.host.privileges import account, become
target = account(DaemonConfig(user="nobody"))
os.setgroups([0, 4])
become(target)
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
facts = {"uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "target": target, "back": back}
print(json.dumps(facts))
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_is_given_up_for_good() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, check=True, timeout=60)
    facts = json.loads(done.stdout)
    uid, gid, groups = facts["target"]
    assert facts["uids"] == [uid] * 3
    assert facts["gids"] == [gid] * 3
    assert set(facts["groups"]) == set(groups)
    assert uid != 0
    assert not facts["back"]
