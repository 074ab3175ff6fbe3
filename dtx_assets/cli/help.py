"""How `dtx` tells what it has: its commands by what they are for, in whole sentences, and what was meant by a slip."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

from dtx_assets.machinery.base.yaml_file import suggestion

GROUPS: Mapping[str, Sequence[str]] = {
    "Begin": ("init", "sample", "diagnose", "target"),
    "Run": ("plan", "run", "replay", "activate", "embed", "daemon", "worker"),
    "Look": ("status", "todo", "rejected", "errors", "explain", "verify", "runs", "report", "search", "archive"),
    "Open": ("ui", "psql"),
    "Undo and remove": ("rollback", "purge"),
}
"""Which commands are shown together, in the order in which one comes to need them."""
OTHERS = "Commands"
NOT_ONE_OF = re.compile(r"(?:Value error, )?'(.*)' is not one of (.*)\.")
"""What the library says of a value that an option does not take."""


class Commands(TyperGroup):
    """Commands that are listed by group; a value that an option does not take is answered with what was meant."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each command with the whole first sentence of its help, where the library would cut it."""
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        groups = {title: [name for name in names if name in shown] for title, names in GROUPS.items()}
        listed = {name for names in groups.values() for name in names}
        groups[OTHERS] = [name for name in shown if name not in listed]
        for title, names in groups.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, first_sentence(shown[name].help or "")) for name in names])

    def invoke(self, ctx: Any) -> Any:
        """Runs a command; ends with a question where a value is nearly one that an option takes."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if refused := NOT_ONE_OF.fullmatch(str(getattr(error, "message", ""))):
                value, choices = refused.groups()
                told = suggestion(value, re.findall("'([^']+)'", choices))
                error.__dict__["message"] = f"{value!r} is not one of {choices}; {told}"
            raise


def first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return f"{sentence}." if stop else paragraph
