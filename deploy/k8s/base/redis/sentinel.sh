#!/bin/sh
# Starts a Sentinel. It keeps its file, with the primary and the epoch, beside the data of Redis. A Sentinel without a file
# asks the others for the primary; in a new cluster, that is pod 0.
set -eu
. "$(dirname "$0")/sentinels.sh"

config=${DATA:-/data}/sentinel.conf
if [ ! -s "$config" ]; then
    primary=$(primaries | head -n 1)
    primary=${primary:-$(host 0)}
    umask 077
    cat >"$config.new" <<CONFIG
bind $POD_IP
port 26379
dir ${DATA:-/data}
requirepass $PASSWORD
sentinel sentinel-pass $PASSWORD
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $self
sentinel monitor tidegate $primary 6379 2
sentinel auth-pass tidegate $PASSWORD
# Above the pauses of a healthy Redis (fork, slow disk).
sentinel down-after-milliseconds tidegate 5000
sentinel failover-timeout tidegate 15000
sentinel parallel-syncs tidegate 1
CONFIG
    mv "$config.new" "$config"
else
    # The pod may have come back with another address.
    sed -i "s/^bind .*/bind $POD_IP/" "$config"
fi
# A Sentinel refuses to start while the name of its primary has no address.
primary=$(sed -n 's/^sentinel monitor tidegate \([^ ]*\) .*/\1/p' "$config")
until getent hosts "$primary" >/dev/null; do sleep 1; done
exec redis-server "$config" --sentinel
