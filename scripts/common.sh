# shellcheck shell=bash
# What every script here starts with: strict mode, the repository's root as the working folder, a Python that has the
# package, and the few functions below. Sourced, not run.
set -euo pipefail

caller_folder=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
started=$SECONDS
cd "$root"

if [[ -n ${POWERNORM_PYTHON:-} ]]; then
  python=$POWERNORM_PYTHON
elif [[ -x $root/.venv/bin/python ]]; then
  python=$root/.venv/bin/python
else
  python=python3
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

# Ends the script with one line. (From within $(…) it ends the assignment, and set -e the script.)
fail() {
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints the comment at the head of the script, which is its help.
show_help() {
  awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$root/scripts/${0##*/}"
  exit 0
}

# value_of OPTION [VALUE...]: the option's value, or an error where it has none.
value_of() {
  [[ $# -ge 2 && $2 != --* ]] || fail "$1 needs a value; see --help"
  printf '%s' "$2"
}

# from_caller PATH: a path that the caller gave, made absolute by the folder that he stood in.
from_caller() {
  case $1 in
    /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$caller_folder" "$1" ;;
  esac
}

# run COMMAND...: prints a command, then runs it.
run() {
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$@"
}

# require_package: fails early where the package's dependencies are not installed.
require_package() {
  "$python" -c 'import fairseq_powernorm, hydra, sacrebleu, sentencepiece, torch' 2>/dev/null ||
    fail "$python has not got the package's dependencies; run 'make install' first"
}

# encode_and_binarize NAME VOCABULARY SPLITS: data/NAME/raw -> BPE -> data-bin/NAME; SPLITS is train,valid,TEST,…
encode_and_binarize() {
  local name=$1 vocabulary=$2 splits=$3 test_prefixes="" split
  local bpe=data/$name/bpe destination=data-bin/$name
  run "$python" -m fairseq_powernorm.corpora.sentencepiece_bpe \
    --raw "data/$name/raw" --destination "$bpe" --splits "$splits" --vocabulary "$vocabulary"
  IFS=, read -ra split_names <<<"$splits"
  for split in "${split_names[@]:2}"; do
    test_prefixes+=${test_prefixes:+,}$bpe/$split
  done
  rm -rf "$destination.tmp"
  run "$python" -m fairseq_cli.preprocess --source-lang de --target-lang en --joined-dictionary \
    --trainpref "$bpe/${split_names[0]}" --validpref "$bpe/${split_names[1]}" --testpref "$test_prefixes" \
    --destdir "$destination.tmp" --workers "$(nproc)" >"data/$name/preprocess.log" 2>&1 ||
    fail "fairseq-preprocess failed, see data/$name/preprocess.log"
  rm -rf "$destination"
  mv "$destination.tmp" "$destination"
}

# stage_of_a_run VERB OUTCOME OPTION...: all that average.sh, translate.sh and score.sh do.
stage_of_a_run() {
  local verb=$1 outcome=$2 folder="" value
  shift 2
  while (($#)); do
    case $1 in
      --run) value=$(value_of "$@"); folder=$(from_caller "$value"); shift 2 ;;
      --help | -h) show_help ;;
      *) fail "unknown option $1; see --help" ;;
    esac
  done
  [[ -n $folder ]] || fail "--run is missing; see --help"
  require_package
  run "$python" -m fairseq_powernorm.launch "$verb" --run "$folder"
  summary "$folder is $outcome"
}

# summary TEXT: the script's last line, with the time it took.
summary() {
  local seconds=$((SECONDS - started))
  printf '%s: %s (%d min %02d s)\n' "${0##*/}" "$*" $((seconds / 60)) $((seconds % 60)) >&2
}
