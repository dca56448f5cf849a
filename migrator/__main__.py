"""``python -m migrator`` and the command ``migrator``."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; a signal ends it with 130, also while it is being loaded."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, signal.default_int_handler)
        from migrator.cli import main as run  # noqa: PLC0415 - takes a moment
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
