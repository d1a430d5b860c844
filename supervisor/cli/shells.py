"""Our script for bash, and what it is answered. Importing this registers it; click's own serve zsh and fish.

bash splits the words of a line at `:`, `=` and `@`, too, and inserts candidates as they are. So the script hands over
the whole line up to the cursor; the answer is what follows the last such character, with a backslash before whatever
a shell would read as its own. COMP_WORDS and COMP_CWORD are taken where there is no line.
"""

from __future__ import annotations

import os
import re
import shlex

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

_SCRIPT = r"""%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(
        IFS=$'\n'
        COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD COMP_LINE="${COMP_LINE:0:COMP_POINT}" \
            COMP_WORDBREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1" 2>/dev/null
    )
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_SPLITTING = ":=@"
_SPECIAL = re.compile(r"[^\w%+,./:=@-]")


@add_completion_class
class Bash(BashComplete):
    """bash 4.4 and newer."""

    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words before the cursor, and the word at it."""
        line = os.environ.get("COMP_LINE", "")
        if not line:
            return super().get_completion_args()
        *words, last = split_arg_string(f"{line}x")  # so that there is a word at the cursor
        return words[1:], last.removesuffix("x")

    def format_completion(self, item: CompletionItem[str]) -> str:
        """A line of the answer: the kind and, for a candidate, the text that bash puts in place of its last word."""
        if item.type != "plain":
            return f"{item.type},"
        value, line = item.value, os.environ.get("COMP_LINE", "")
        if not line or _quoted(line):
            return f"plain,{value}"
        typed = self.get_completion_args()[1]
        breaks = [at for at, char in enumerate(typed) if char in _SPLITTING and char in os.environ["COMP_WORDBREAKS"]]
        rest = value[breaks[-1] + 1 :] if breaks else value
        return "plain," + _SPECIAL.sub(r"\\\g<0>", rest)


def _quoted(line: str) -> bool:
    """Whether the cursor at the end of the line is within quotes."""
    try:
        shlex.split(f"{line}x")
    except ValueError:
        return True
    return False
