"""The `hxp-stack` program."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from reference_stack.errors import StackError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hxp-stack`; return its exit code."""
    parser = argparse.ArgumentParser(prog="hxp-stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run one service in the foreground")
    serve.add_argument("name")
    serve.add_argument("--settings", type=Path, metavar="FILE")
    serve.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int)
    serve.add_argument("--fd", type=int, help="serve on this listening socket, inherited")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        return _serve(options)
    except StackError as error:
        print(f"hxp-stack: {error}", file=sys.stderr)
        return error.exit_code


def _serve(options: argparse.Namespace) -> int:
    from reference_stack.catalogue import load_catalogue
    from reference_stack.serve import read_settings, serve

    settings = read_settings(options.name, options.settings, tuple(options.assignments))
    port = load_catalogue()[options.name].port if options.port is None else options.port
    serve(options.name, settings, host=options.host, port=port, fd=options.fd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
