"""An argument parser whose errors are as short and as helpful as all others: what is wrong, and what to type next."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from hxp_harness.errors import ExitCode, nearest

# What people look for among the options and have in the profile.
_ELSEWHERE = {
    "--trace": "recorded times and prompts belong in a profile: arrival: {kind: replay, file: F}, prompts: {file: F}",
    "--concurrency": "a closed loop belongs in a profile: arrival: {kind: closed, concurrency: 32}",
    "--gate": "gates belong in a profile; of a stored run: hxp judge RUN_DIR --gate SENTENCE",
    "--url": "the server is --target http://HOST:PORT/v1",
    "--api-key": "a key is not typed but named: --api-key-env VARIABLE",
}


class OptionsParser(argparse.ArgumentParser):
    """Says one line of what is wrong and one of what to type, and ends with the code of a usage error."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - argparse's own
        """Refuse what is unknown here, where the command's options are known, and not at the root."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with its hint and exit."""
        hint = self._hint(message) or f"see {self.prog} --help"
        self.exit(ExitCode.USAGE, f"{self.prog}: {message.partition(' (choose from')[0]}\n  {hint}\n")

    def _hint(self, message: str) -> str:
        options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        if found := re.match(r"unrecognized arguments: (-[^ =]*)", message):
            word = found[1]
            return _ELSEWHERE.get(word) or (nearest(word, options) if word.startswith("--") else "")
        if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            return nearest(found[1], re.findall(r"'([^']*)'", found[2]))
        if found := re.match(r"argument (--\S+): expected one argument", message):
            return f"a value that begins with - is written {found[1]}=VALUE"
        if "--model --profile is required" in message:
            return f"for example: {self.prog} --model phi3"
        return ""
