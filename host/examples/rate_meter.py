"""Print the detector rates of a station, no run needed: python rate_meter.py URL, the URL as for `qrelay info`."""

import sys
import time

from qrelay import Board

with Board.open(sys.argv[1]) as board:
    board.write("receiver.enable", 1)  # a station whose receiver is off counts nothing
    for _ in range(10):
        print([board.read(f"receiver.rate_{detector}") for detector in range(board.identity.detectors)])
        time.sleep(0.1)
