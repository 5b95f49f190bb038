"""Writes docs/reference/security.md from the tests that are marked owasp(...): python docs/security.py"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "security.md"
LISTS: dict[str, dict[str, str]] = {
    "OWASP API Security Top 10, 2023": {
        "API1:2023": "Broken object level authorization",
        "API2:2023": "Broken authentication",
        "API3:2023": "Broken object property level authorization",
        "API4:2023": "Unrestricted resource consumption",
        "API5:2023": "Broken function level authorization",
        "API6:2023": "Unrestricted access to sensitive business flows",
        "API7:2023": "Server side request forgery",
        "API8:2023": "Security misconfiguration",
        "API9:2023": "Improper inventory management",
        "API10:2023": "Unsafe consumption of APIs",
    },
    "OWASP Top 10 for LLM applications, 2025": {
        "LLM01:2025": "Prompt injection",
        "LLM02:2025": "Sensitive information disclosure",
        "LLM03:2025": "Supply chain",
        "LLM04:2025": "Data and model poisoning",
        "LLM05:2025": "Improper output handling",
        "LLM06:2025": "Excessive agency",
        "LLM07:2025": "System prompt leakage",
        "LLM08:2025": "Vector and embedding weaknesses",
        "LLM09:2025": "Misinformation",
        "LLM10:2025": "Unbounded consumption",
    },
}
# What no test can promise of a server and its gateway, or not all of it.
LEFT = {
    "API6:2023": "What a flow is worth is known to who sells it; the stack bounds what a key may spend.",
    "LLM01:2025": "Whether a model obeys a hostile prompt is its own; the stack keeps roles and control tokens text.",
    "LLM04:2025": "Whether weights were poisoned at their source cannot be seen; that they are the manifest's can.",
    "LLM06:2025": "The stack runs no tools: what a model calls is data for the client, passed on as it came.",
    "LLM07:2025": "The stack adds no prompt of its own; prompts of clients are in no log, metric or error.",
    "LLM09:2025": "What is true is the model's; that speed was not bought with other answers is checked in every run.",
}
_HEAD = """\
# Security

What the tests promise about the risks of two lists. Made from the marks of the tests by `python docs/security.py`; a
test fails when a risk has neither a test nor a reason, or when this page is older than the tests.

- `./nox -s security` tries the gateway, or `-- --target URL`: over 500 ways to say who one is, on five routes; over
  400 bodies; 80 framings; 40 places for an address, with an ear at that address; side routes; secrets in answers. Then
  it runs bandit.
- `./nox -s supply` writes `reports/sbom.json`, a CycloneDX bill of materials of what the package brings, and looks for
  secrets in every file of the checkout.
- `python -m pytest tests suites -m owasp` runs everything below.

What is installed is pinned with hashes, and held to `locks/lowest-safe.yaml`: versions below which an advisory is
known, and two that were stolen goods. What is not in that table is not proven safe: nothing here asks a database of
advisories, since that is traffic to elsewhere. Ask one (`pip-audit -r locks/run.txt --strict`) where you may.

"""


@dataclass(frozen=True, slots=True)
class Promise:
    """A marked test: what it promises, and where it is."""

    words: str
    place: str


def promises(folders: Sequence[str] = ("tests", "suites")) -> Mapping[str, list[Promise]]:
    """Return the promises of all marked tests by risk, in order of their places."""
    found: dict[str, list[Promise]] = {}
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if "mark.owasp" not in text:
                continue
            for risk, promise in _marked(ast.parse(text), file.relative_to(ROOT)):
                found.setdefault(risk, []).append(promise)
    return found


def _marked(tree: ast.Module, file: Path) -> Iterator[tuple[str, Promise]]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.owasp":
                words = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
                for risk in mark.args:
                    yield str(ast.literal_eval(risk)), Promise(words, f"{file}::{node.name}")


def page(found: Mapping[str, Sequence[Promise]]) -> str:
    """Return the Markdown page: a table a list, and in it every promise with its test."""
    parts = [_HEAD]
    for title, risks in LISTS.items():
        parts.append(f"## {title}\n\n")
        for risk, name in risks.items():
            parts.append(f"### {risk} {name}\n\n")
            parts += [f"{LEFT[risk]}\n\n"] if risk in LEFT else []
            parts += [f"- {one.words} `{one.place}`\n" for one in found.get(risk, ())]
            parts += ["\n"] if found.get(risk) else []
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(promises()), encoding="utf-8")
    print(PAGE)
