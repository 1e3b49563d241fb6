"""What the tool raises when the cause is the user's input or surroundings rather than a bug."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do about it.

    The command line prints the message alone and exits with status 2; anything else keeps its traceback.
    """


class NoJudgementsError(InputError):
    """A collection has no judgements of the split that was asked for."""
