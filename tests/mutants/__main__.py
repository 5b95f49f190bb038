"""Who tests the tester: `python -m tests.mutants [--docs] [WORD ...]`.

Makes every mutant (or those with WORD in their name), lets its check look at the sound thing and at the broken one,
and prints what was said. Ends with 1 where a mutant was not caught.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.load.page import put
from tests.mutants.catalogue import MUTANTS, PAGE, table
from tests.mutants.mutant import Tried, tried
from tests.mutants.workshop import opened


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants and show them; 1 where one was not caught, 2 where none has such a name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants with this in their name")
    parser.add_argument("--docs", action="store_true", help=f"put the table into {PAGE.name}, too")
    options = parser.parse_args(argv)
    chosen = [one for one in MUTANTS if not options.words or any(word in one.name for word in options.words)]
    if not chosen:
        print(f"no mutant has {' or '.join(options.words)} in its name", file=sys.stderr)
        return 2
    found: list[Tried] = []
    with opened(by_command=True) as workshop:
        for number, mutant in enumerate(chosen, 1):
            print(f"{number}/{len(chosen)} {mutant.name}", file=sys.stderr)
            found.append(tried(mutant, workshop))
    escaped = [one for one in found if one.problem]
    counted = f"{len(found) - len(escaped)} of {len(found)} mutants are caught by the check that has to."
    print(f"{table(found)}\n\n{counted}")
    if options.docs and not options.words:
        put("mutants", f"{table(found)}\n\n{counted}", PAGE)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
