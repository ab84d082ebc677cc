import sys


def main() -> None:
    """The command `ssmspec`; Ctrl-C ends it with one line even while it is still being loaded."""
    try:
        from ssmspec.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("ssmspec: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
