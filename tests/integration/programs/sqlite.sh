#!/bin/bash
# sqlite3 with four writers at once, in WAL and in rollback mode, on a database that begins in the lower layer.
source "$(dirname "$0")/lib.sh"

rows=60
mkdir lower
for mode in wal delete; do
  sqlite3 lower/$mode.db "create table t(writer, n, data); insert into t values(0, 0, 'lower');" || exit 1
done
overlay m $room/lower

writer() {
  local database=$1 id=$2 n
  for n in $(seq $rows); do
    sqlite3 -cmd '.timeout 60000' "$database" \
      "begin immediate; insert into t values($id, $n, hex(randomblob(2000))); commit;" > /dev/null || return 1
  done
}
four_writers() {
  local id jobs=() job
  for id in 1 2 3 4; do
    writer "$1" $id &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || return 1; done
}
query() { sqlite3 -cmd '.timeout 60000' "$1" "$2"; }

# The last connection that closes takes the WAL away, and one that opens meanwhile is refused without waiting, as is a
# change of the mode beside another (sqlite.org/wal.html): one connection sets the mode and stays.
stay_connected() {
  coproc STAYING { sqlite3 -cmd '.timeout 60000' "$1"; }
  echo "pragma journal_mode=$2; select 'there', count(*) from t;" >&"${STAYING[1]}"
  local line
  until [[ ${line:-} == there* ]]; do read -r line <&"${STAYING[0]}" || return 1; done
}
disconnect() {
  local pid=$STAYING_PID input=${STAYING[1]}
  exec {input}>&-
  wait "$pid"
}

for mode in wal delete; do
  database=$room/m/$mode.db
  stay_connected "$database" $mode || exit 1
  check "$mode: four writers" four_writers "$database"
  check "$mode: every row is there" equal "$(query "$database" 'select count(*) from t')" $((4 * rows + 1))
  check "$mode: integrity" equal "$(query "$database" 'pragma integrity_check')" ok
  check "$mode: a long reader beside a writer" bash -c "
    sqlite3 -cmd '.timeout 60000' '$database' 'begin; select count(*) from t; select sum(length(data)) from t;' > /dev/null &
    sqlite3 -cmd '.timeout 60000' '$database' 'insert into t values(9, 9, 9);' && wait \$!"
  disconnect
  check "$mode: vacuum" query "$database" "pragma journal_mode=delete; vacuum; pragma integrity_check"
  check "$mode: the lower one is untouched" equal "$(sqlite3 "lower/$mode.db" 'select count(*) from t')" 1
done
