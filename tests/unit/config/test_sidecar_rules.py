"""The rules of [web] and [hooks]: one row a rule, a line of the file and what is said about it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.config.load import interpret, load
from supervisor.config.schema import Config, HooksConfig, WebConfig
from supervisor.errors import ConfigError

POOL = '[pools.email]\nqueue = "email"\nhandler = "myapp.email:send"\n'


def read(text: str) -> Config:
    return interpret(tomllib.loads(text + "\n" + POOL), Path("/etc/preforkd/preforkd.toml"), {})


def only_problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('listen = "9750"', "names no address"),
        ('listen = "127.0.0.1"', "must be host:port"),
        ('listen = ":9750"', "names no address: write 127.0.0.1:PORT"),
        ('listen = "127.0.0.1:99999"', "the port must be at most 65535"),
        ('listen = "0.0.0.0:9750"', "not a loopback address"),
        ('listen = "[::]:9750"', "not a loopback address"),
        ('listen = "web.example.com:9750"', "not a loopback address"),
        ("listen = 9750", "expected str"),
        ('tokn_file = "x"', 'did you mean "token_file"?'),
        ('token = "123456789abcdef"', "must have at least 16 characters"),
        ('token = "0123456789abcdef 0"', "without blanks"),
        ('token = "0123456789abcdeé"', "ASCII"),
        ('token = "0123456789abcdef"\ntoken_file = "f"', "keep one of the two"),
        ('allowed_hosts = ["http://preforkd"]', "'http://preforkd' is no host name"),
        ('allowed_hosts = ["preforkd:9750"]', "without scheme and port"),
        ('allowed_hosts = ["*"]', "is no host name"),
        ('allowed_hosts = ["a.*.b"]', "is no host name"),
        ('allowed_hosts = [""]', "is no host name"),
    ],
)
def test_what_web_may_not_be(line: str, said: str) -> None:
    assert said in only_problem(f"[web]\n{line}")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9750", ("127.0.0.1", 9750)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
    ],
)
def test_a_loopback_address_needs_no_token(listen: str, address: tuple[str, int]) -> None:
    assert read(f'[web]\nlisten = "{listen}"').web.address == address


def test_an_address_for_other_hosts_needs_a_token_and_its_path_starts_at_the_file() -> None:
    found = read('[web]\nlisten = "0.0.0.0:9750"\ntoken_file = "token"').web
    assert found == WebConfig("0.0.0.0:9750", "/etc/preforkd/token")


def test_a_token_from_a_variable_will_do_for_other_hosts() -> None:
    text = f'[web]\nlisten = "0.0.0.0:9750"\ntoken = "${{T}}"\nallowed_hosts = ["preforkd", "*.svc"]\n{POOL}'
    found = interpret(tomllib.loads(text), Path("/f"), {"T": "0123456789abcdef"}).web

    assert found == WebConfig("0.0.0.0:9750", token="0123456789abcdef", allowed_hosts=("preforkd", "*.svc"))


def test_a_token_that_is_wrong_is_not_shown() -> None:
    assert "geheim" not in only_problem('[web]\ntoken = "geheim"')


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('on_exit = "mail \'ops"', "cannot be split into words: no closing quotation"),
        ('on_dead = " "', "contains no program"),
        ('webhook = "ftp://host/x"', 'must be "https://host/…"'),
        ('webhook = "https:///x"', 'must be "https://host/…"'),
        ('webhook = "https://host/a b"', "it contains a blank"),
        ('webhook = "https://host:port/x"', "not a URL"),
        ('causes = ["crash", "timeuot"]', 'there is no cause "timeuot": docs/exits.md has them all (did you mean'),
        ("rate = [0, 60]", "both must be more than 0"),
        ("rate = [1]", "expected a list of a number and a duration"),
        ("timeout = 0", "must be more than 0"),
        ('webhook = "https://h/x"\nwebhook_file = "f"', "webhook is given, too"),
        ("webhook_file = 3", "expected a string"),
        ('webhook_file = "/no/such/file"', "cannot be read"),
    ],
)
def test_what_hooks_may_not_be(line: str, said: str) -> None:
    assert said in only_problem(f"[hooks]\n{line}")


def test_a_webhook_is_not_shown_when_it_is_wrong() -> None:
    assert "geheim" not in only_problem('[hooks]\nwebhook = "ftp://host/geheim"')


def test_hooks_are_off_until_one_is_configured() -> None:
    assert not read("[hooks]\ncauses = []").hooks.wanted
    assert read('[hooks]\non_hold = "true"').hooks.wanted


def test_a_webhook_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("\nhttps://host/geheim\n")
    (tmp_path / "preforkd.toml").write_text(f'[hooks]\nwebhook_file = "url"\nrate = [3, "1m"]\n{POOL}')
    assert load(str(tmp_path / "preforkd.toml")).hooks == HooksConfig(webhook="https://host/geheim", rate=(3, 60.0))
