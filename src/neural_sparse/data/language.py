"""Which language a text is in."""

from __future__ import annotations

from collections.abc import Collection

from neural_sparse.errors import InputError

_READ = 250  # characters looked at; more costs time and changes next to nothing


def language_of(text: str) -> str:
    """ISO 639-1 code of the likeliest language (py3langid, whose model ships with the package)."""
    import py3langid

    return str(py3langid.classify(text[:_READ])[0])


def known_languages() -> frozenset[str]:
    """Codes that `language_of` can give."""
    import py3langid

    return frozenset(str(label) for label, _ in py3langid.rank("a text"))


def check_languages(languages: Collection[str]) -> None:
    """
    Raises:
        InputError: a code that is not known.
    """
    if languages and (unknown := sorted(set(languages) - known_languages())):
        raise InputError(f"unknown language {', '.join(unknown)}; use ISO 639 codes such as en, ko, de")
