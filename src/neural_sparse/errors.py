"""What the tool raises when the cause is the user's input or surroundings rather than a bug."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do about it.

    The command line prints the message alone and exits with status 2; anything else keeps its traceback.
    """


class NoJudgementsError(InputError):
    """A collection has no judgements of the split that was asked for."""


class DivergedError(InputError):
    """Training was stopped, for nothing could have come of it: documents without terms or with nearly all, or a loss
    that is not finite."""


def check_seed(seed: int) -> int:
    """Raises InputError for a seed that numpy's and torch's generators do not take."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to {2**32 - 1}, not {seed}")
    return seed


def refuse_one_string(texts: object, what: str = "texts") -> None:
    """Raises InputError for one string where a list of them belongs: its letters would pass for texts."""
    if isinstance(texts, str | bytes):
        raise InputError(f"{what} must be a list of texts, not one text: [{texts!r:.60}]")
