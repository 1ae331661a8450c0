#!/bin/sh
# Copies the spool, the history, the ledger and the archive into a folder while everything runs.
#
#     backup.sh FOLDER
#
# FOLDER gets a new folder named by the time (UTC), and `archive`, which all backups share. Its last line
# of output is the new folder. docs/operations/backup.md explains the order, and how to restore.
#
# Variables: those of the processes (ORCHESTRATOR_REDIS_URL, ORCHESTRATOR_DATA_DIR, ORCHESTRATOR_ARCHIVE_URL,
# ORCHESTRATOR_HISTORY_URL, ORCHESTRATOR_SPOOL_DIR), and
#   REDIS_CLI  the command that reaches Redis (default: redis-cli -u $ORCHESTRATOR_REDIS_URL)
#   REDIS_DIR  the folder of Redis' data, as this script sees it (default: what Redis says)
#
# Programs: redis-cli 7, rsync, and sqlite3 or pg_dump.
set -eu
umask 077

[ $# -eq 1 ] || { echo "usage: backup.sh FOLDER" >&2; exit 2; }
data=${ORCHESTRATOR_DATA_DIR:-./data}
target=$1/$(date -u +%Y-%m-%dT%H-%M-%SZ)
partial=$target.partial
redis_cli=${REDIS_CLI:-redis-cli -u ${ORCHESTRATOR_REDIS_URL:-redis://127.0.0.1:6379/0} --no-auth-warning}

redis() { # runs a command of Redis; -e: an error is an exit status
    # shellcheck disable=SC2086 # the words of REDIS_CLI
    $redis_cli -e "$@"
}

setting() { # the value of a setting of Redis
    redis CONFIG GET "$1" | sed -n 2p | tr -d '\r'
}

copy() { # copies a folder that is in use; a file that vanishes meanwhile (24) is no error
    mkdir -p "$2"
    rsync --archive "$1/" "$2/" || [ $? -eq 24 ]
}

lacks() { # says that a part is not where the variables say
    echo "There is no $1 at $2, so the backup has none." >&2
}

[ "$(setting appendonly)" = yes ] || { echo "Redis has no append-only file" >&2; exit 1; }
mkdir -p "$partial"

# 1. The spool.
if [ -d "${ORCHESTRATOR_SPOOL_DIR:-}" ]; then
    copy "$ORCHESTRATOR_SPOOL_DIR" "$partial/spool"
elif [ -n "${ORCHESTRATOR_SPOOL_DIR:-}" ]; then
    lacks spool "$ORCHESTRATOR_SPOOL_DIR"
fi

# 2. The history.
case ${ORCHESTRATOR_HISTORY_URL:-} in
postgresql*)
    pg_dump --format=custom --file="$partial/history.dump" \
        --dbname="postgresql:${ORCHESTRATOR_HISTORY_URL#*:}" ;;
*)
    database=${ORCHESTRATOR_HISTORY_URL:-sqlite:///$data/history/history.db}
    database=${database#sqlite:///}
    if [ -e "$database" ]; then
        sqlite3 "$database" "VACUUM INTO '$partial/history.db'"
    else
        lacks history "$database"
    fi ;;
esac

# 3. The ledger. Its files must not be rewritten while they are copied.
rewrite_at=$(setting auto-aof-rewrite-percentage)
trap 'redis CONFIG SET auto-aof-rewrite-percentage "$rewrite_at" >/dev/null' EXIT
trap 'exit 1' HUP INT TERM
redis CONFIG SET auto-aof-rewrite-percentage 0 >/dev/null
while redis INFO persistence | grep -Eq '^aof_rewrite_(in_progress|scheduled):1'; do
    sleep 1
done
copy "${REDIS_DIR:-$(setting dir)}/$(setting appenddirname)" "$partial/ledger"
redis CONFIG SET auto-aof-rewrite-percentage "$rewrite_at" >/dev/null
trap - EXIT HUP INT TERM

# 4. The archive. Files are only added, so the copy goes on from the last one.
case ${ORCHESTRATOR_ARCHIVE_URL:-} in
*://*) archive=${ORCHESTRATOR_ARCHIVE_URL#file://} ;;
*) archive=${ORCHESTRATOR_ARCHIVE_URL:-$data/archive} ;;
esac
case $archive in
*://*) echo "The archive is a bucket. It is not copied here." >&2 ;;
*) if [ -d "$archive" ]; then copy "$archive" "$1/archive"; else lacks archive "$archive"; fi ;;
esac

(cd "$partial" && find . -type f ! -name SHA256SUMS -exec sha256sum {} +) >"$partial.sums"
mv "$partial.sums" "$partial/SHA256SUMS"
sync
mv "$partial" "$target"
echo "$target"
