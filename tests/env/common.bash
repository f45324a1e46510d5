# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run.
set -euo pipefail

# Everything that is fetched, built or written lives here. It may be deleted whenever nothing runs.
# shellcheck disable=SC2034 # read by the scripts that source this
cache=${WEIR_TEST_CACHE:-$HOME/.cache/weir-tests}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

# Prints a script's own header comment as its help.
help() { sed -n '2,/^[^#]/{ s/^# \{0,1\}//p; }' "$0"; }

# packages NAME…: installs the Debian packages that are missing, or says which to install.
packages() {
  local name missing=()
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null) == installed ]] || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  type -P apt-get > /dev/null || die "needs ${missing[*]} (names as in Debian): install them first"
  ((EUID == 0)) || die "needs ${missing[*]}: run 'sudo apt-get install ${missing[*]}' first"
  say "installing ${missing[*]}"
  mkdir -p "$cache"
  [[ -n ${apt_updated:-} ]] || apt-get update -qq > "$cache/apt.log" 2>&1 || die "apt-get update: $(tail -3 "$cache/apt.log")"
  apt_updated=yes
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
    "${missing[@]}" > "$cache/apt.log" 2>&1 || die "apt-get install: $(tail -3 "$cache/apt.log")"
}

# tools COMMAND:PACKAGE…: the package is installed only where the command is missing.
tools() {
  local pair missing=()
  for pair in "$@"; do
    type -P "${pair%%:*}" > /dev/null || missing+=("${pair#*:}")
  done
  ((${#missing[@]} == 0)) || packages "${missing[@]}"
}

# answers PORT: does something on this machine listen there?
answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# free_ports FIRST COUNT [RESERVED…]: prints the first port, from FIRST on, that begins COUNT free ones. Each RESERVED
# is the first of COUNT ports that belong to something that may be stopped just now.
free_ports() {
  local first=$1 count=$2 port reserved
  shift 2
  while :; do
    for ((port = first; port < first + count; port++)); do
      ! answers "$port" || break
      for reserved in "$@"; do
        ((port < reserved || port >= reserved + count)) || break 2
      done
    done
    ((port < first + count)) || break
    first=$((port + 1))
  done
  echo "$first"
}

# process PID WORD: does it run, with WORD in its command line? A number alone may be another process by now.
process() { [[ -r /proc/$1/cmdline ]] && tr '\0' ' ' < "/proc/$1/cmdline" | grep -qF -- "$2"; }

# alive PIDFILE WORD: the same for the process whose number is in that file.
alive() { [[ -s $1 ]] && process "$(< "$1")" "$2"; }

# end PIDFILE WORD SECONDS: SIGTERM, and SIGKILL after that many seconds.
end() {
  local pid tick
  alive "$1" "$2" || return 0
  pid=$(< "$1")
  kill "$pid" 2> /dev/null || true
  kill -CONT "$pid" 2> /dev/null || true
  for ((tick = 0; tick < $3 * 10; tick++)); do
    alive "$1" "$2" || return 0
    sleep 0.1
  done
  say "${0##*/}: process $pid did not end in $3 s: killed"
  kill -9 "$pid" 2> /dev/null || true
}

# locked FILE COMMAND…: one at a time on this machine. What COMMAND leaves running does not keep the lock.
locked() {
  local file=$1
  shift
  mkdir -p "${file%/*}"
  (
    flock 9
    "$@"
  ) 9> "$file"
}
