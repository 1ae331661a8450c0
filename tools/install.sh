#!/bin/sh
# Installs this project with one extra into the virtual environment, and shows progress.
# Usage: PYTHON=python3 VENV=.venv tools/install.sh EXTRA STAMP...
# The STAMP files tell make that the installation is complete. They are removed first and created last.
set -u
cd "$(dirname "$0")/.." || exit 1

extra=$1
shift
python=${PYTHON:-python3}
venv=${VENV:-.venv}
# Exists during an installation and after an interrupted one. Holds the process id.
marker=$venv/.installing
log=$venv/pip.log

# A line of progress at most this often, where the output is not a terminal. Seconds.
LINE_SECONDS=5
# Lines of pip's output that an error message shows.
ERROR_LINES=15

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

check_python() {
    command -v "$python" >/dev/null ||
        fail "$python is not installed. Install Python 3.11 or newer, or name another one: make PYTHON=python3.12"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed. $python is $("$python" --version). Try: make PYTHON=python3.12"
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return

    # Debian ships Python without ensurepip. Root can install it; other users see the command.
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    missing="$python has no venv module. Run: sudo apt-get install $package"
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "$missing"
    echo "Installing the Debian package $package ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq "$package" >/dev/null || fail "$missing"
}

create_venv() {
    [ ! -e "$venv" ] || [ -e "$venv/pyvenv.cfg" ] || [ -e "$marker" ] ||
        fail "$venv exists and is not a virtual environment. Remove it, or choose another folder: make VENV=.venv2"
    check_python
    echo "Creating $venv with $("$python" --version) ..."
    rm -rf "$venv"
    mkdir -p "$venv" && echo $$ >"$marker" && "$python" -m venv "$venv" ||
        fail "$venv cannot be created. Correct the problem above and run make again."
}

# Whether a process runs this script. A process id may belong to another program by now.
installing() {
    { cat "/proc/$1/cmdline" || ps -p "$1" -o args=; } 2>/dev/null | grep -q 'install\.sh'
}

installed() {
    ls -d "$venv"/lib/python*/site-packages/*.dist-info 2>/dev/null | wc -l
}

# What pip does now, according to its log.
state() {
    total=$(sed -n 's/^Installing collected packages: //p' "$log" | tr ',' '\n' | grep -c .)
    if [ "$total" -gt 0 ]; then
        new=$(($(installed) - before))
        [ "$new" -ge 0 ] || new=0
        echo "installing: $new of $total packages"
        return
    fi
    found=$(grep -cE '^(Collecting|Processing) ' "$log")
    [ "$found" -gt 0 ] && echo "downloading: $found packages found" || echo "preparing"
}

seconds() {
    echo $(($(date +%s) - started))
}

show_progress() {
    if [ -t 1 ]; then
        printf '\r  %-60s' "$(state), $(seconds) s"
    elif [ "$(seconds)" -ge "$next_line" ]; then
        echo "  $(state), $(seconds) s"
        next_line=$(($(seconds) + LINE_SECONDS))
    fi
}

# pip changes nothing before this line. Later, the virtual environment may be incomplete: the marker stays.
remove_marker_if_unchanged() {
    grep -q '^Installing collected packages' "$log" || rm -f "$marker"
}

interrupted() {
    kill "$pip" 2>/dev/null
    wait "$pip" 2>/dev/null
    remove_marker_if_unchanged
    echo
    fail "The installation was interrupted. The next make starts it again."
}

if [ -e "$marker" ]; then
    other=$(cat "$marker")
    ! installing "${other:-0}" ||
        fail "Process $other is installing into $venv. Wait for its end and run make again."
    echo "The last installation into $venv was interrupted."
    create_venv
elif ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    create_venv
fi
rm -f "$@"
echo $$ >"$marker"

echo "Installing .[$extra] into $venv, once ..."
started=$(date +%s) next_line=$LINE_SECONDS before=$(installed)
"$venv/bin/python" -m pip install --progress-bar off --disable-pip-version-check --no-input \
    -c constraints.txt -e ".[$extra]" >"$log" 2>&1 &
pip=$!
trap interrupted HUP INT TERM
while kill -0 "$pip" 2>/dev/null; do
    show_progress
    sleep 0.5
done
wait "$pip"
status=$?
trap - HUP INT TERM
[ ! -t 1 ] || printf '\r%-62s\r' ''

if [ "$status" != 0 ]; then
    remove_marker_if_unchanged
    echo "pip could not install .[$extra] (exit status $status). Its last lines:" >&2
    tail -n "$ERROR_LINES" "$log" | sed 's/^/  /' >&2
    echo "Correct the problem and run make again. The whole output is in $log." >&2
    exit "$status"
fi
rm -f "$marker"
touch "$@"
echo "Installed $(installed) packages in $(seconds) s."
