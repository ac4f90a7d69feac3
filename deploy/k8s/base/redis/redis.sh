#!/bin/sh
# Starts Redis: as the primary if at least two Sentinels name this pod, otherwise as a replica of the one that they name.
set -eu
. "$(dirname "$0")/sentinels.sh"

primary=
until [ -n "$primary" ]; do
    # A name that two of three Sentinels gave. One alone may have slept through a failover.
    primary=$(primaries | sort | uniq -d | head -n 1)
    [ -n "$primary" ] || sleep 1
done

config=/tmp/redis-$POD_NAME.conf
umask 077
cat >"$config" <<CONFIG
bind $POD_IP
port 6379
dir ${DATA:-/data}
requirepass $PASSWORD
masterauth $PASSWORD
replica-announce-ip $self
# docs/redis.md has the reasons for these settings.
appendonly yes
appendfsync everysec
save ""
maxmemory ${MAXMEMORY:-5gb}
maxmemory-policy noeviction
client-output-buffer-limit pubsub 256mb 64mb 60
lazyfree-lazy-expire yes
tcp-keepalive 60
min-replicas-to-write 1
min-replicas-max-lag 10
CONFIG
[ "$primary" = "$self" ] || echo "replicaof $primary 6379" >>"$config"
exec redis-server "$config"
