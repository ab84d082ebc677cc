"""Whether only results and errors are written: one switch for the process, as the option --quiet is."""

_quiet = False


def be_quiet(wanted: bool) -> None:
    """Set the switch."""
    global _quiet
    _quiet = wanted


def quiet() -> bool:
    """Whether notes and progress are unwanted."""
    return _quiet
