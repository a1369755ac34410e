#!/usr/bin/env bash
# Nodes that join a running search, one for each task of an array: sbatch --array=1-8 --gres=gpu:4 slurm_join.sh OUTPUT
# OUTPUT is that of slurm.sh. A task may start late or be preempted: the search uses what is there. It ends with the search.
#SBATCH --job-name=vattn-join
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

output=${1:?usage: sbatch --array=1-N slurm_join.sh OUTPUT}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
export RAY_raylet_start_wait_time_s=180 # see slurm.sh

for _ in $(seq "${WAIT_SECONDS:-600}"); do # the search may not have begun yet
    [ -s "$output/ray_address" ] && break
    sleep 1
done
[ -s "$output/ray_address" ] || {
    echo "$output/ray_address: no search has begun there; start slurm.sh with this folder" >&2
    exit 2
}
address=$(cat "$output/ray_address")

ray start --block --address="$address" --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID" &
node=$!
trap 'kill "$node" 2>/dev/null || true; wait' EXIT
trap 'exit 143' TERM

# The address is removed when the search ends; another address is that of another cluster.
while kill -0 "$node" 2>/dev/null && [ "$(cat "$output/ray_address" 2>/dev/null)" = "$address" ]; do
    sleep 2
done
