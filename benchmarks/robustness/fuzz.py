"""Seeded mutations of downloads, tables, plans and arguments through our own commands, each in a child of its own.

    python benchmarks/robustness/fuzz.py OUT --inputs 2000 --seed 1

writes ``inputs.jsonl`` (one line an input) to OUT and prints a table. Exit code 1 where an input is a fault.
``--number N`` runs one input again and shows what it prints.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update({"MPLBACKEND": "Agg", "nnUNet_def_n_proc": "1", "COLUMNS": "120"})

import argparse  # noqa: E402
import functools  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import pickle  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import box as boxes  # noqa: E402
import child  # noqa: E402
import inputs  # noqa: E402
import subjects  # noqa: E402
import summary  # noqa: E402
from verdict import GOOD, verdict  # noqa: E402
from warm import VERBS, Warm  # noqa: E402


def main() -> int:
    """Makes and tries the inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the record")
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--number", type=int, help="this input alone, with all it prints")
    parser.add_argument("--only", nargs="+", choices=tuple(inputs.WEIGHTS), default=[], help="kinds of inputs")
    parser.add_argument("--skip", nargs="+", metavar="COMMAND", default=[], help="try no inputs of these commands")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("--show", action="store_true", help="make the inputs and name them, try none")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        return _run(args, boxes.Box(Path(work).resolve()))


def _run(args: argparse.Namespace, box: boxes.Box) -> int:
    os.environ.update(box.environment())  # nnU-Net reads its folders when it is imported
    for name in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR"):  # what libraries keep in the user's own folders
        os.environ[name] = os.fspath(box.work / name.lower())
    box.clear()
    child.warm_up_conversions()
    gc.freeze()  # no child touches what is shared only to look for garbage
    log, warm = box.work / "log", Warm()
    numbers = [args.number] if args.number is not None else range(args.first, args.first + args.inputs)
    rows, begun = [], time.monotonic()
    with (args.out / "inputs.jsonl").open("w", encoding="utf-8") as record:
        for number in numbers:
            made = _made(box, args, number)
            if made is None or (made.argv and made.argv[0] in args.skip):
                continue
            row = json.loads(inputs.described(box, made))
            if not args.show:
                row |= _tried(box, made, warm, log, show=args.number is not None)
            rows.append(row)
            record.write(json.dumps(row) + "\n")
            record.flush()
            if not args.show and row["class"] not in GOOD:
                print(f"{number} {row['class']} ({row['kind']}): {row['mutation']}: {row['told']}"[:600], flush=True)
            if not args.show and len(rows) % 100 == 0:
                print(f"{len(rows)} inputs in {time.monotonic() - begun:.0f} s", flush=True)
    if args.show:
        print("\n".join(map(json.dumps, rows)))
        return 0
    print(summary.table(rows))
    return 1 if any(row["class"] not in GOOD for row in rows) else 0


def _made(box: boxes.Box, args: argparse.Namespace, number: int) -> inputs.Input | None:
    """The input, made in a child: what the mutations need of memory is not this process's, nor that of its children."""
    handed = box.work / "made"

    def make() -> int:
        prepare = functools.partial(subjects.prepare, box, log=box.work / "prepared")
        handed.write_bytes(pickle.dumps(inputs.make(box, args.seed, number, prepare, args.only)))
        return 0

    ending = child.call(make, box.work, box.environment(), box.work / "making", 600)
    if ending.code != 0:
        print(f"{number} cannot be made: {ending.err[-1000:]}", flush=True)
        return None
    made: inputs.Input = pickle.loads(handed.read_bytes())
    return made


def _tried(box: boxes.Box, made: inputs.Input, warm: Warm, log: Path, show: bool) -> dict[str, object]:
    before = boxes.tree(box.top)
    run = warm.run_command if made.argv and made.argv[0] in VERBS else child.run_command
    ending = run(made.argv, box.here / "cwd", box.environment(), log)
    paths = boxes.changed(before, boxes.tree(box.top))
    left = [path for path in paths if os.path.lexists(path) and _is_left(path, box)]
    outside = [path for path in boxes.outside(paths, made.allowed) if path not in left]
    name, told = verdict(made.argv[0] if made.argv else "", ending, outside, left)
    if show:
        print(made.argv, ending.out[-3000:], ending.err[-6000:], sep="\n", file=sys.stderr)
    return {
        "class": name,
        "told": box.shown(told)[:600],
        "code": ending.code,
        "peak": ending.peak,
        "seconds": round(ending.seconds, 2),
    }


def _is_left(path: str, box: boxes.Box) -> bool:
    name = os.path.basename(path)  # noqa: PTH119
    return ".tmp-" in name or name.startswith(".extract") or path.startswith(os.fspath(box.here / "tmp") + os.sep)


if __name__ == "__main__":
    sys.exit(main())
