"""Use the installed wheel in an empty project: run the first test of docs/how-to/fixtures.md.

Run by `nox -s build` with the Python of an environment that never saw this checkout.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "fixtures.md"


def main() -> int:
    """Return the exit code of pytest in the empty project."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    with tempfile.TemporaryDirectory() as project:
        Path(project, "test_shown_in_docs.py").write_text(blocks[0], encoding="utf-8")
        where = subprocess.check_output(
            [sys.executable, "-c", "import hxp_harness; print(hxp_harness.__file__)"], cwd=project, text=True
        )
        print(f"installed: {where.strip()}")
        if "site-packages" not in where:
            print("this environment has the checkout, not the wheel")
            return 1
        profiles = "from hxp_harness.profile import known_profiles; print('profiles:', *known_profiles())"
        subprocess.run([sys.executable, "-c", profiles], cwd=project, check=True)
        argv = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
        return subprocess.run(argv, cwd=project, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
