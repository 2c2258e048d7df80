# shellcheck shell=bash
# What every script here starts with: strict mode, the repository's root as the working folder (where a wheel was
# installed, the caller's), a Python that has the package, and the few functions below. Sourced, not run.
set -euo pipefail

caller_folder=$PWD
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$scripts")
started=$SECONDS
if [[ -f $root/pyproject.toml ]]; then
  export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
else
  root=$PWD
fi
cd "$root"

if [[ -n ${POWERNORM_PYTHON:-} ]]; then
  python=$POWERNORM_PYTHON
elif [[ -x $root/.venv/bin/python ]]; then
  python=$root/.venv/bin/python
else
  python=python3
fi

# Ends the script with one line. (From within $(…) it ends the assignment, and set -e the script.)
fail() {
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints the comment at the head of the script, which is its help.
show_help() {
  awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$scripts/${0##*/}"
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

# take_options NAME... NAME=DEFAULT... -- WORD...: reads a script's options into variables of their names, with _ for -.
# NAME is a switch, true or false; NAME=DEFAULT takes a value, which is a path in the caller's folder for from and
# bpe-codes. --force, --dry-run and --help are always among them.
take_options() {
  local -A _takes=()
  local _name _value
  set -- force dry-run "$@"
  while [[ $1 != -- ]]; do
    _name=${1%%=*} _value=false _takes[--${1%%=*}]=nothing
    [[ $1 != *=* ]] || _value=${1#*=} _takes[--$_name]="a value"
    printf -v "${_name//-/_}" '%s' "$_value"
    shift
  done
  shift
  while (($#)); do
    [[ $1 != --help && $1 != -h ]] || show_help
    [[ -n $1 && -n ${_takes[$1]-} ]] || fail "unknown option $1; see --help"
    _name=${1#--} _value=true
    if [[ ${_takes[$1]} == "a value" ]]; then
      _value=$(value_of "$@")
      [[ $_name != from && $_name != bpe-codes ]] || _value=$(from_caller "$_value")
      shift
    fi
    printf -v "${_name//-/_}" '%s' "$_value"
    shift
  done
}

# print_command WORD...: a command as it can be pasted into a shell, on stdout.
print_command() {
  local word line=""
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+=${line:+ }$word
  done
  printf '%s\n' "$line"
}

# run COMMAND...: prints a command, then runs it. Where the script's $dry_run is true, prints it on stdout instead.
run() {
  if [[ ${dry_run:-false} == true ]]; then
    print_command "$@"
    return
  fi
  printf '+ %s\n' "$(print_command "$@")" >&2
  "$@"
}

# only_one NAME: waits until no other process prepares data/NAME. What this one starts inherits the lock, so that a
# command whose script was killed is waited for too.
only_one() {
  local lock
  command -v flock >/dev/null || fail "the program flock is missing; install it first"
  mkdir -p "data/$1"
  exec {lock}>"data/$1/.lock"
  flock --nonblock "$lock" || {
    printf '%s: another process prepares data/%s; waiting for it\n' "${0##*/}" "$1" >&2
    flock "$lock"
  }
}

# require_name NAME: fails where it is none of a folder: all of data-bin/ would be taken for it.
require_name() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || fail "--name takes letters, digits, '.', '_' and '-', got '$1'"
}

# require_package: fails early where the package's dependencies are not installed.
require_package() {
  "$python" - <<<'from importlib.util import find_spec as find
import sys
sys.exit(not all(map(find, ("fairseq_powernorm", "hydra", "sacrebleu", "sentencepiece", "torch"))))' ||
    fail "$python has not got the package's dependencies; run 'make install' first"
}

# is_prepared NAME: whether data-bin/NAME is there, which appears whole.
is_prepared() { compgen -G "data-bin/$1/dict*.txt" >/dev/null; }

# begin_preparation NAME FORCE [FOLDER...]: takes the lock of data/NAME and ends the script where data-bin/NAME is there
# already; with FORCE true, removes data/NAME/FOLDER… instead, what stays are archives.
begin_preparation() {
  local name=$1 force=$2
  shift 2
  [[ ${dry_run:-false} == false ]] || return 0
  only_one "$name"
  find "data/$name" -name '.*.tmp' -prune -exec rm -rf {} +  # what a killed command left
  if [[ $force == true ]]; then
    local folder given
    for folder; do
      for given in "${from:-}" "${bpe_codes:-}"; do
        [[ -z $given || $(realpath -m -- "$given")/ != "$(realpath -m "data/$name/$folder")"/* ]] ||
          fail "$given lies in data/$name/$folder, which --force makes again; move it elsewhere first"
      done
    done
    rm -rf "data-bin/$name"  # first, so that nobody takes it for what is made from the new text
    ((!$#)) || rm -rf "${@/#/data/$name/}"
  elif is_prepared "$name"; then
    summary "data-bin/$name is there already, whatever the options say; --force makes it again"
    exit 0
  fi
}

# until_done FOLDER COMMAND...: runs a command once; FOLDER/.done says that it came to its end.
until_done() {
  local folder=$1
  shift
  if [[ ${dry_run:-false} == false && -f $folder/.done ]]; then
    printf '%s is there already\n' "$folder" >&2
    return
  fi
  run "$@"
  [[ ${dry_run:-false} == true ]] || touch "$folder/.done"
}

# prepare_from_archives NAME MODULE SOURCE TARGET MERGES FOLDERS OPTION...: all that prepare_iwslt14_de_en.sh and
# prepare_wmt14_en_de.sh do. corpora.MODULE writes data/NAME/tokenized; --force makes the FOLDERS again. The script's
# $own_switches may have any-archive, which goes to the module.
prepare_from_archives() {
  local name=$1 module=$2 source=$3 target=$4 from bpe_codes merges force folders flags=()
  IFS=' ' read -ra folders <<<"$6"
  # shellcheck disable=SC2154  # the script's
  take_options from= bpe-codes= merges="$5" "${own_switches[@]}" -- "${@:7}"
  [[ ${any_archive:-false} == false ]] || flags=(--any-archive)
  require_package
  [[ -z $bpe_codes || -f $bpe_codes ]] || fail "$bpe_codes: no such file"
  begin_preparation "$name" "$force" "${folders[@]}"
  until_done "data/$name/tokenized" "$python" -m "fairseq_powernorm.corpora.$module" --destination "data/$name" \
    ${from:+--from "$from"} "${flags[@]}"
  run "$python" -m fairseq_powernorm.corpora.subword_bpe --text "data/$name/tokenized" --destination "data/$name/bpe" \
    --languages "$source,$target" --merges "$merges" ${bpe_codes:+--codes "$bpe_codes"}
  binarize "$name" "$source" "$target"
}

# encode_and_binarize NAME VOCABULARY: data/NAME/raw -> sentencepiece BPE -> data-bin/NAME.
encode_and_binarize() {
  run "$python" -m fairseq_powernorm.corpora.sentencepiece_bpe \
    --text "data/$1/raw" --destination "data/$1/bpe" --vocabulary "$2"
  binarize "$1" de en
}

# binarize NAME SOURCE TARGET: data/NAME/bpe -> data-bin/NAME, and the end of the preparation.
binarize() {
  run "$python" -m fairseq_powernorm.corpora.binarize --text "data/$1/bpe" --destination "data-bin/$1" \
    --languages "$2,$3" --log "data/$1/preprocess.log"
  [[ ${dry_run:-false} == true ]] || summary "data-bin/$1 is ready"
}

# powernorm_run VERB OPTION...: becomes `powernorm-run VERB OPTION...` in the caller's folder, called by the script's name.
powernorm_run() {
  cd "$caller_folder"
  POWERNORM_SCRIPT=scripts/${0##*/} PYTHONUTF8=1 exec "$python" -P -m fairseq_powernorm.pipeline "$@"
}

# summary TEXT: the script's last line, with the time it took.
summary() {
  local seconds=$((SECONDS - started))
  printf '%s: %s (%d min %02d s)\n' "${0##*/}" "$*" $((seconds / 60)) $((seconds % 60)) >&2
}
