#!/usr/bin/env bash
# with_slurm.sh COMMAND ARGUMENT…: runs a command on a Slurm cluster of its own, which ends with it.
#
# The cluster is Debian's slurm-wlm and munge on this machine alone: one controller and two nodes, node1 and node2, of
# one core each, all run by the calling user, root or not; keys, sockets, ports and logs are its own, so a Slurm that is
# installed here is left alone. Jobs of partition "urgent" make those of "usual" wait, which are put back into the queue.
# However this script ends, killed included, the daemons end too.
set -euo pipefail
shopt -s nullglob

fail() {
  echo "with_slurm.sh: error: $*" >&2
  exit 1
}

(($# > 0)) || fail "expected a command"
PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd srun sbatch scontrol setpriv; do
  command -v "$program" >/dev/null || fail "no $program here; Debian has it in the packages slurm-wlm and munge"
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/slurm.XXXXXX") # a short path: sockets lie below
export SLURM_CONF=$folder/slurm.conf
daemons=()

end_cluster() {
  trap - EXIT
  if [[ -e $folder/ready ]]; then
    scancel --user="$(id -un)" 2>/dev/null || true
    for _ in {1..20}; do
      [[ -n $(squeue --noheader 2>/dev/null) ]] || break
      sleep 0.5
    done
  fi
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do # munged, which the others need, last
    kill "${daemons[i]}" 2>/dev/null || true
    wait "${daemons[i]}" 2>/dev/null || true
  done
  rm -rf "$folder"
}
trap end_cluster EXIT
trap 'exit 143' TERM
trap 'exit 130' INT HUP

# start NAME COMMAND…: a daemon in the foreground of a process that ends when this script does.
start() {
  local name=$1
  shift
  setpriv --pdeathsig TERM "$@" >"$folder/$name.out" 2>&1 </dev/null &
  daemons+=($!)
}

# await WHAT COMMAND…: waits until a command succeeds, at most half a minute, while the last daemon lives.
await() {
  local what=$1
  shift
  for _ in {1..60}; do
    "$@" >/dev/null 2>&1 && return
    kill -0 "${daemons[-1]}" 2>/dev/null || break
    sleep 0.5
  done
  fail "$what does not start: $(tail -q -n 3 "$folder"/*.out "$folder"/*.log | tr '\n' ' ')"
}

free_ports() {
  python3 -c 'import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in sockets))'
}

head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
socket=$folder/munge.socket
start munged munged --foreground --force --key-file="$folder/munge.key" --socket="$socket" \
  --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" --log-file="$folder/munged.log"
await munge bash -c "munge --socket='$socket' --no-input | unmunge --socket='$socket'"

host=$(hostname --short)
read -r controller_port port1 port2 < <(free_ports)
mkdir "$folder/state"
# The number of a job makes the port of its training: two clusters on this machine should not have the same ones.
# cred_expire is also how long a job that was put back waits before it starts again; two minutes unless set.
cat >"$SLURM_CONF" <<END
ClusterName=test
FirstJobId=$((RANDOM + 1))
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$port1 CPUs=1
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$port2 CPUs=1
PartitionName=usual Nodes=node1,node2 Default=YES PriorityTier=1
PartitionName=urgent Nodes=node1,node2 PriorityTier=2
END
start slurmctld slurmctld -D -f "$SLURM_CONF"
await slurmctld scontrol ping
for node in node1 node2; do
  start "$node" slurmd -D -f "$SLURM_CONF" -N "$node"
done
# shellcheck disable=SC2016  # for the other shell
await "a node" bash -c '[[ $(sinfo --noheader --Node --states=idle --partition=usual | wc -l) == 2 ]]'
touch "$folder/ready"
"$@"
