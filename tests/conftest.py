"""What holds for all tests."""

import signal


def pytest_configure(config):
    """A shell starts what is in the background deaf to Ctrl-C, and all that this starts; the tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
