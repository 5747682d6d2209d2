"""Kills training runs at random instants and compares what becomes of them with a run that nobody disturbed.

    python -m tests.integration.chaos --kills 100 --seed 1
    python -m tests.integration.chaos --strategies 30
    python -m tests.integration.chaos --signals 20
    python -m tests.integration.chaos --writes 200
    python -m tests.integration.chaos --break seed

The exit code is 0 where every run ended as promised; with --break it is 0 where the checker saw every broken resume.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.integration.chaos import table
from tests.integration.chaos.campaign import Campaign
from tests.integration.chaos.plan import draw_broken, draw_kills, draw_signals, draw_strategies

_log = logging.getLogger("chaos")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.chaos", description=__doc__.split("\n")[0]
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kills", type=int, metavar="N", help="N runs, each killed one to three times")
    what.add_argument(
        "--strategies",
        type=int,
        metavar="N",
        help="N runs of DDP and DeepSpeed on 2 and 4 ranks, each killed",
    )
    what.add_argument("--signals", type=int, metavar="N", help="N runs that are told to stop")
    what.add_argument("--writes", type=int, metavar="N", help="N kills while a checkpoint is written")
    what.add_argument(
        "--break", dest="broken", choices=("seed", "order", "noise"), help="resume another run on purpose"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (default 1)")
    parser.add_argument("--lanes", type=int, default=2, help="single processes side by side (default 2)")
    parser.add_argument("--only", type=int, metavar="CASE", help="one case of those that would be run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--folder", type=Path, help="new folder for the runs, removed when all went well")
    return parser.parse_args()


def main() -> int:
    """Run what the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    options = _arguments()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    campaign = Campaign(folder.absolute(), folder.absolute() / "cache", options.lanes)
    try:
        if options.writes:
            results = campaign.run_writes(options.writes, options.seed)
        else:
            if options.kills:
                cases = draw_kills(options.kills, options.seed)
            elif options.strategies:
                cases = draw_strategies(options.strategies, options.seed)
            elif options.signals:
                cases = draw_signals(options.signals, options.seed)
            else:
                cases = draw_broken(options.broken, 3, options.seed)
            cases = [case for case in cases if options.only in (None, case.number)]
            results = campaign.run(cases)
    finally:
        campaign.close()
    if options.json:
        table.write_json(results, options.json)
    for line in table.summary(results):
        _log.info("%s", line)
    ended_well, line = table.judge(
        results, is_broken=bool(options.broken), needs_all_places=bool(options.kills) and not options.only
    )
    if ended_well:
        shutil.rmtree(folder)
    else:
        _log.info("the runs that were not equal lie in %s", folder)
    _log.info("%s", line)
    return 0 if ended_well else 1


if __name__ == "__main__":
    sys.exit(main())
