"""What holds for all tests."""

import gc
import signal

# Designs are made of millions of objects and few cycles; looking for cycles so often costs a seventh of the time.
gc.set_threshold(200_000, 20, 20)


def pytest_configure(config):
    """A shell starts what is in the background deaf to Ctrl-C, and all that this starts; the tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
