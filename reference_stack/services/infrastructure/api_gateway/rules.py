"""What a value must be, as rules that are put together from others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import cast

# What is wrong with a value in words that follow "must be", or "" when it is right.
Rule = Callable[[object], str]


def number(low: float, high: float, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or in (low, high] when `above`."""
    words = f"a number {'above' if above else 'from'} {low:g} {'and at most' if above else 'to'} {high:g}"

    def rule(value: object) -> str:
        if type(value) not in (int, float):  # which a bool is not
            return words
        value = cast("float", value)
        return "" if (low < value if above else low <= value) and value <= high else words

    return rule


def integer(low: int, high: int) -> Rule:
    words = f"an integer from {low} to {high}"

    def rule(value: object) -> str:
        if type(value) is not int:  # which a bool is not
            return words
        return "" if low <= value <= high else words

    return rule


def boolean(value: object) -> str:
    return "" if value is True or value is False else "true or false"


def text(longest: int, *, shortest: int = 0) -> Rule:
    words = f"a string of {shortest} to {longest} characters"
    return lambda value: "" if type(value) is str and shortest <= len(value) <= longest else words


def one_of(*words: str) -> Rule:
    return lambda value: "" if type(value) is str and value in words else "one of " + ", ".join(words)


def either(*rules: Rule) -> Rule:
    def rule(value: object) -> str:
        problems = []
        for each in rules:
            problem = each(value)
            if not problem:
                return ""
            problems.append(problem)
        return " or ".join(problems)

    return rule


def listed(rule: Rule, most: int, *, least: int = 1) -> Rule:
    def each(value: object) -> str:
        if not isinstance(value, list) or not least <= len(value) <= most:
            return f"a list of {least} to {most}"
        for one in value:
            problem = rule(one)
            if problem:
                return f"a list of which each is {problem}"
        return ""

    return each


def fields(known: Mapping[str, Rule], *, needed: Iterable[str] = ()) -> Rule:
    """An object with fields of these names alone; null stands for absent where a field is not needed."""
    must = frozenset(needed)
    words = "an object with " + ", ".join(known)

    def rule(value: object) -> str:
        if not isinstance(value, dict) or not must <= value.keys():
            return words
        told = ""
        for name, inner in value.items():
            rule = known.get(name)
            if rule is None:
                return words
            problem = "" if told or (inner is None and name not in must) else rule(inner)
            if problem:
                told = f"an object whose {name} is {problem}"
        return told

    return rule


def simply(rule: Rule, choices: Collection[str]) -> Rule:
    """What `rule` says of messages; of the simplest, a role out of `choices` and a text, without asking it."""

    def either_way(value: object) -> str:
        if type(value) is dict and len(value) == 2:
            role = value.get("role")
            if type(role) is str and role in choices and type(value.get("content")) is str:
                return ""
        return rule(value)

    return either_way
