"""A process with a watchdog, for tests that stop it: `python watched_rank.py RANK PORT FOLDER TIMEOUT`."""

import logging
import sys
import time
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from pipeline.training.watch.pulse import Place, Stage
from pipeline.training.watch.records import Ending
from pipeline.training.watch.watchdog import Watchdog

if __name__ == "__main__":
    rank, port, folder, timeout_s = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    logging.basicConfig(level=logging.WARNING)
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=30))
    ending = Ending(folder, rank, 75, "GO ON", timeout_s)
    with Watchdog(timeout_s, rank, ending, interval_s=0.1, reserve_s=1.0) as watchdog:
        watchdog.watch(store, "127.0.0.1")
        for step in range(10**6):
            watchdog.at(Place(step, step, Stage.FORWARD, 0, "forward pass", is_bounded=True))
            if step == 3:
                (folder / f"trains-{rank}").touch()
            if (folder / f"hang-{rank}").exists():
                logging._lock.acquire()  # what a thread that hangs may hold
                logging.getLogger().handlers[0].acquire()
                time.sleep(1000)
            time.sleep(0.01)
