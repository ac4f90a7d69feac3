# Names of the pods, and the primary that the Sentinels name. For redis.sh and sentinel.sh.
#
# STATEFULSET and SERVICE are the names of the StatefulSet and of its headless Service with its domain; POD_NAME and POD_IP
# are this pod's; PASSWORD is the password of Redis and of the Sentinels, without spaces, quotes and backslashes.

# The name of pod $1. Redis and the Sentinels announce names, because a pod comes back with another address.
host() {
    echo "$STATEFULSET-$1.$SERVICE"
}

self="$POD_NAME.$SERVICE"
export REDISCLI_AUTH="$PASSWORD"

# Prints one line for each Sentinel that answers: the name of its primary.
primaries() {
    for number in 0 1 2; do
        timeout 2 redis-cli -h "$(host "$number")" -p 26379 sentinel get-master-addr-by-name tidegate 2>/dev/null |
            head -n 1 | grep -F ".$SERVICE" || true
    done
}
