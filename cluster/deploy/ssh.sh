#!/usr/bin/env bash
# One search on machines that you reach by SSH: ssh.sh SPEC OUTPUT HOST...
# The page "Files for clusters" explains it. The first host is the head. All hosts have this project in the same folder and share
# OUTPUT. It ends with the search, or by Ctrl-C; run it again to go on.
set -euo pipefail

spec=${1:?usage: ssh.sh SPEC OUTPUT HOST...}
output=${2:?usage: ssh.sh SPEC OUTPUT HOST...}
shift 2
hosts=("${@:?usage: ssh.sh SPEC OUTPUT HOST...}")
head=${hosts[0]}
project=${PROJECT:-$PWD} # its folder on all hosts
port=${RAY_PORT:-6379}
run=vattn-$$

# on HOST COMMAND: run a line of shell in the project on a host.
on() {
    ssh -o BatchMode=yes -o ServerAliveInterval=15 "$1" "cd $(printf %q "$project") && . .venv/bin/activate && $2"
}

# The token reaches the hosts through standard input: other users can list command lines.
token=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
# Ray may be imported from a disk that all hosts read at once; its default is 30 seconds.
environment="export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=\$HOME/.ray/$run RAY_raylet_start_wait_time_s=180"

# shellcheck disable=SC2329 # the trap calls it
stop() {
    trap '' INT TERM
    for n in "${!hosts[@]}"; do
        on "${hosts[n]}" "[ ! -f ~/.ray/$run-$n ] || kill \$(cat ~/.ray/$run-$n); rm -f ~/.ray/$run ~/.ray/$run-$n" || true
    done
    wait
}
trap stop EXIT
trap 'exit 130' INT TERM

for host in "${hosts[@]}"; do
    on "$host" "umask 077; mkdir -p ~/.ray; cat > ~/.ray/$run" <<<"$token"
done

# start N ARGUMENTS: run Ray on host number N until this script ends. Ctrl-C is for this script, not for its connections.
start() {
    (
        trap '' INT
        on "${hosts[$1]}" "$environment; echo \$\$ > ~/.ray/$run-$1; exec ray start --block --temp-dir=/tmp/$run-$1 $2"
    ) </dev/null &
}

ip=${HEAD_IP:-$(on "$head" "hostname -I" </dev/null | awk '{print $1}')}
start 0 "--head --node-ip-address=$ip --port=$port --include-dashboard=false"
for _ in {1..60}; do
    on "$head" "bash -c 'exec 3<>/dev/tcp/$ip/$port'" 2>/dev/null </dev/null && break
    sleep 2
done
for n in "${!hosts[@]}"; do
    [ "$n" -eq 0 ] || start "$n" "--address=$ip:$port"
done
# The search begins with the hosts that have joined within two minutes.
on "$head" "$environment; python - $ip:$port ${#hosts[@]}" <<'PYTHON'
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
end = time.monotonic() + 120
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]) and time.monotonic() < end:
    time.sleep(1)
PYTHON

status=0 late=no
words=$(printf '%q ' vattn run "$spec" --output "$output" --address "$ip:$port" --resume)
(
    trap '' INT
    on "$head" "$environment; echo \$\$ > ~/.ray/$run-search; exec $words"
) </dev/null &
search=$!
# The search ends as by Ctrl-C, with status 130. It may not have started yet.
interrupt="for i in 1 2 3 4 5; do kill -TERM \$(cat ~/.ray/$run-search) 2>/dev/null && break; sleep 1; done"
trap 'late=yes; on "$head" "$interrupt" </dev/null' INT TERM
wait "$search" || status=$?
if [ "$late" = yes ]; then # the signal has ended the first wait
    status=0
    wait "$search" || status=$?
fi
on "$head" "rm -f ~/.ray/$run-search" </dev/null || true
exit "$status"
