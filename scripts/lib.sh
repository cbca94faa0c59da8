# Shared by the scripts: colours (none with NO_COLOR, or where nobody looks), and the time of each stage.
if [ -z "${NO_COLOR:-}" ] && { [ -t 1 ] || [ -n "${FORCE_COLOR:-}" ]; }; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' blue=$'\e[34m' cyan=$'\e[36m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' yellow='' blue='' cyan='' plain=''
fi

# run_quietly LOG COMMAND...: shows the output only when the command fails.
run_quietly() {
  local log=$1
  shift
  "$@" > "$log" 2>&1 && return 0
  tail -n 80 "$log" >&2
  echo "${red}failed:${plain} $*   (all of it: $log)" >&2
  return 1
}

minutes() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }
