#!/usr/bin/env bash
# One search in one Slurm allocation: sbatch --nodes=4 --gres=gpu:4 slurm.sh SPEC OUTPUT
# The page "Files for clusters" explains it. OUTPUT is a folder that all nodes share. slurm_join.sh adds nodes while it runs.
# Submitted again with the same OUTPUT, it goes on where the search was; at the time limit it does so by itself.
#SBATCH --job-name=vattn
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

spec=${1:?usage: sbatch slurm.sh SPEC OUTPUT}
output=${2:?usage: sbatch slurm.sh SPEC OUTPUT}
mkdir -p "$output"

# All nodes of this user read the token in the home folder, which they share.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    (umask 077 && mkdir -p "${RAY_AUTH_TOKEN_PATH%/*}" &&
        python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH")
fi

# Ray is imported from a disk that many nodes read at once; its default is 30 seconds.
export RAY_raylet_start_wait_time_s=180

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000)) # several jobs may share a node
# The first address of the first node, where this script runs; set HEAD_IP where another network is faster.
ip=${HEAD_IP:-$(hostname -I | awk '{print $1}')}
address=$ip:$port
cpus=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0}

steps=()
# shellcheck disable=SC2329 # the trap calls it
stop() {
    rm -f "$output/ray_address"
    [ ${#steps[@]} -eq 0 ] || kill "${steps[@]}" 2>/dev/null || true
    wait
}
trap stop EXIT

# start NODE ARGUMENTS...: run Ray on a node until this job ends. Nodes do not share their temporary folder.
start() {
    local node=$1
    shift
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
        ray start --block --num-cpus="$cpus" --num-gpus="$gpus" --temp-dir="/tmp/ray-$SLURM_JOB_ID-$node" "$@" &
    steps+=($!)
}

start "${nodes[0]}" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false
for _ in {1..120}; do
    (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null && break
    kill -0 "${steps[0]}" # the head has ended
    sleep 1
done
for node in "${nodes[@]:1}"; do
    start "$node" --address="$address"
done
# The search begins with the nodes that have joined within two minutes.
python -c '
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
end = time.monotonic() + 120
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]) and time.monotonic() < end:
    time.sleep(1)
' "$address" "${#nodes[@]}"
echo "$address" >"$output/ray_address"

# The time limit sends TERM to this script; the search ends as by Ctrl-C, with status 130.
status=0 late=no
vattn run "$spec" --output "$output" --address "$address" --resume &
search=$!
trap 'late=yes; kill -TERM "$search"' TERM
wait "$search" || status=$?
if [ "$late" = yes ]; then # TERM has ended the first wait
    status=0
    wait "$search" || status=$?
fi
if [ "$status" -eq 130 ] && [ "$late" = yes ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
