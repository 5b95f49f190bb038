"""A command line whose errors are two lines: what is wrong, and the nearest right spelling or where to look."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from reference_stack.errors import SettingsError, nearest


class OptionsParser(argparse.ArgumentParser):
    """Says what is wrong and what to type, and ends with the code of a usage error."""

    def parse_known_args(  # type: ignore[override]  # argparse's own has overloads that nobody here needs
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse what is unknown here, where the command's options are known, and not at the root."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with its hint and exit."""
        hint = self._hint(message) or f"see {self.prog} --help"
        self.exit(SettingsError.exit_code, f"{self.prog}: {message.partition(' (choose from')[0]}\n  {hint}\n")

    def _hint(self, message: str) -> str:
        options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        if found := re.match(r"unrecognized arguments: (--[^ =]+)", message):
            return nearest(found[1], options)
        if found := re.match(r"unrecognized arguments: ([^ -][^ ]*)", message):
            names = [option for option in ("--model", "--only") if option in options]  # what a bare word may have meant
            return f"did you mean '{names[0]} {found[1]}'?" if names else ""
        if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            return nearest(found[1], re.findall(r"'([^']*)'", found[2]))
        return ""
