"""Names of functions and classes in the configuration: `module:name`. Pure, used by the rules of pools."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_function(text: str) -> bool:
    """Whether the text has the form `module:name`, such as `myapp.email:send`."""
    return bool(_FUNCTION.fullmatch(text))


def function_hint(text: str) -> str:
    """What was probably meant by a text that has another form; "" if that cannot be told."""
    module, _, function = text.removesuffix("()").replace(":", ".").replace("/", ".").rpartition(".")
    guess = f"{module.removesuffix('.py').strip('.')}:{function}"
    return f'did you mean "{guess}"?' if is_function(guess) else ""


def wrong_names(texts: Iterable[str]) -> list[str]:
    """The texts of another form, or that are there twice."""
    found: list[str] = []
    seen: set[str] = set()
    for text in texts:
        if not is_function(text) or text in seen:
            found.append(text)
        seen.add(text)
    return found
