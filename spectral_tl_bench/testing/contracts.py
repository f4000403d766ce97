"""The error of a broken contract."""

from __future__ import annotations


class ContractError(AssertionError):
    """A class or entry that breaks a contract; the message says which."""


def require(condition: object, broken: str) -> None:
    """Raise what is broken unless the condition holds."""
    if not condition:
        raise ContractError(broken)
