#!/usr/bin/env bash
# bash benchmarks/gpu/run.sh OUT [part ...] [--toy] [--device cuda|cpu] [--limit SECONDS]
#
# Runs the parts of the campaign in the order given (all five if none is named), writes OUT/rows.csv, OUT/summary.md and a log
# a part, and prints the summary. The exit code is 1 if a check failed. README.md beside this file says what each part proves.
#   --toy     tiny sizes, to try the campaign out
#   --device  cuda unless given
#   --limit   seconds of the whole run, 540 unless given. Each part has its share of them (below, of 540); the last one named
#             has what is left.
set -uo pipefail

declare -A LIMITS=([smoke]=90 [memory]=90 [steps]=150 [commands]=150 [learning]=300)
out="" parts=() toy=() device=cuda limit=540
while [ $# -gt 0 ]; do
  case "$1" in
    --toy) toy=(--toy) ;;
    --device) device=$2; shift ;;
    --limit) limit=$2; shift ;;
    smoke | memory | steps | commands | learning) parts+=("$1") ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *) if [ -n "$out" ]; then echo "unknown part $1; parts: smoke memory steps commands learning" >&2; exit 2; fi; out=$1 ;;
  esac
  shift
done
if [ -z "$out" ]; then sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
[ ${#parts[@]} -gt 0 ] || parts=(smoke memory steps commands learning)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
mkdir -p "$out" && out=$(cd "$out" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/campaign.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# What one process compiles, the next one finds.
export TORCHINDUCTOR_CACHE_DIR="$work/inductor" TRITON_CACHE_DIR="$work/triton" TORCHINDUCTOR_COMPILE_THREADS=4

begun=$SECONDS
for number in "${!parts[@]}"; do
  part=${parts[$number]}
  left=$((limit - (SECONDS - begun)))
  seconds=$((LIMITS[$part] * limit / 540))
  [ "$number" -lt $((${#parts[@]} - 1)) ] && [ "$seconds" -lt "$left" ] || seconds=$left
  if [ "$seconds" -lt 10 ]; then
    "$python" "$here/table.py" "$out/rows.csv" "$part" "no time was left for it"
    continue
  fi
  echo "== $part: $seconds s"
  # The part keeps its limit itself; should it hang, it is ended a little later, with all that it started.
  timeout --signal=TERM --kill-after=5 $((seconds + 5)) \
    "$python" "$here/$part.py" "$out" --limit "$seconds" --device "$device" --work "$work/$part" "${toy[@]}" 2>&1 | tee "$out/$part.log"
  code=${PIPESTATUS[0]}
  if [ "$code" -gt 1 ]; then
    "$python" "$here/table.py" "$out/rows.csv" "$part" "it ended with exit code $code (124 and 137: at its time limit)"
  fi
  "$python" "$here/summary.py" "$out" --quiet || true
done
echo "== the whole run took $((SECONDS - begun)) s"
"$python" "$here/summary.py" "$out"
