"""Where the process starts: nothing but a guard around the imports of the real program."""

import sys


def main() -> int:
    """Run janus; a Ctrl-C during the imports ends like any other."""
    try:
        from .cli import main as program

        return program()
    except KeyboardInterrupt:
        sys.stderr.write("janus: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
