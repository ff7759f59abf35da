"""The wording of every error: the argument's name, what came, what was wanted."""


def bad(name: str, got: object, wanted: str) -> ValueError:
    """The ValueError `name: got …; wanted …`."""
    return ValueError(f"{name}: got {got}; wanted {wanted}")
