"""``python -m migrator`` and the command ``migrator``."""

import os
import signal


def main() -> None:
    """Run the command line; a signal ends it with 130, also while it is being loaded."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, signal.default_int_handler)
        from migrator.cli import main as run  # noqa: PLC0415 - takes a moment

        run()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
