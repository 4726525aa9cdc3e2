"""The command line: `fastlimit replay` and `fastlimit demo`, also as `python -m fastlimit`.

Exit status: 0 done, 1 when the reader of the output went away, 2 for what the user has to change (arguments,
a limit, a file), 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence

from fastlimit import InvalidLimit, Limiter

from .replay.demo import run_demo
from .replay.drive import replay
from .replay.figures import figures_of, scale_of
from .replay.log import FORMATS, read_log
from .replay.readers import CannotReplay, Columns
from .replay.report import as_json
from .replay.screen import new_console, print_replay
from .traffic import Traffic

PIPE_CLOSED, USAGE, INTERRUPTED = 1, 2, 130
REPLAY_EXAMPLES = """\
examples:
  fastlimit replay access.log.gz --limit "60/minute" --limit "sliding-window 60/minute"
  fastlimit replay access.log --limit "10/s; 1000/h" --key path --top 20
  fastlimit replay tokens.csv --limit "1M/minute burst 2M" --cost ContextTokens+GeneratedTokens
  zcat access.log.*.gz | fastlimit replay - --limit "100/minute" --json
"""


def natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, not {text!r}")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastlimit", description="A rate-limiting engine, on your own traffic."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_replay(commands)
    add_demo(commands)
    return parser


def add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "replay",
        help="put a log through limits and see what they would have denied",
        epilog=REPLAY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("log", metavar="LOG", help="access log or CSV, plain or .gz; - for standard input")
    command.add_argument(
        "--limit",
        action="append",
        required=True,
        help='such as "60/minute"; repeat to compare, each on its own',
    )
    command.add_argument(
        "--key",
        metavar="FIELD",
        help="what to count by: client (default), user, path, method or another field; in a CSV a column"
        " (default `key`); `all` for one key in all",
    )
    command.add_argument(
        "--cost", metavar="FIELD[+FIELD]", help="field, or sum of fields (default 1; in a CSV `cost`)"
    )
    command.add_argument("--time", metavar="COLUMN", help="column of a CSV that holds the time")
    command.add_argument("--format", choices=FORMATS, default="auto", help="auto: by the first lines")
    command.add_argument(
        "--top", type=natural, default=10, metavar="N", help="offenders to show (default 10)"
    )
    command.add_argument("--json", action="store_true", help="one JSON object; needs no rich")
    command.set_defaults(run=run_replay)


def add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("demo", help="one rate under every algorithm, side by side")
    command.add_argument("--log", metavar="FILE", help="a log to use instead of generated traffic")
    command.add_argument("--rate", help="for each client (default: one at which the algorithms differ)")
    command.add_argument("--seed", type=natural, default=1, help="of the generated traffic (default 1)")
    command.set_defaults(run=show_demo)


def run_replay(given: argparse.Namespace) -> None:
    console = None if given.json else new_console()
    for limit in given.limit:
        Limiter(limit, max_keys=1)
    cost = tuple(given.cost.split("+")) if given.cost else ()
    log = read_log(given.log, Columns(given.key, cost, given.time), given.format)
    scale = scale_of(log.trace)
    limits = [figures_of(replay(log.trace, limit), scale) for limit in given.limit]
    if console is None:
        print(json.dumps(as_json(log, scale, limits, given.top), indent=2))
    else:
        print_replay(console, log, scale, limits, given.top)


def show_demo(given: argparse.Namespace) -> None:
    run_demo(given.log, given.rate, Traffic(seed=given.seed))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status; argparse itself exits, with 2, over wrong arguments."""
    given = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        given.run(given)
        sys.stdout.flush()
    except (CannotReplay, InvalidLimit) as error:
        print(f"fastlimit {given.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Else the interpreter, flushing at exit, would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
