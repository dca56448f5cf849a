"""``python -m migrator`` and the command ``migrator``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; a signal ends it with 130, also while it is being loaded."""
    try:
        if sys.getfilesystemencoding() != "utf-8":  # a locale in which not every file has a name
            argv = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
            os.execv(sys.executable, argv)  # noqa: S606 - ourselves
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, signal.default_int_handler)
        from migrator.cli import main as run  # noqa: PLC0415 - takes a moment

        run()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
