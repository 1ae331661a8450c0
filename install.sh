#!/bin/sh
# Installs this package with an extra, with one line of progress per package.
# Usage: install.sh PIP '.[extra]'
set -u
pip=$1 what=$2
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
echo "Installing $what (once) ..."
{
    "$pip" install --progress-bar off --disable-pip-version-check -c constraints.txt -e "$what" 2>&1
    echo "pip exit status $?"
} | tee "$log" | awk '
    /^Collecting / { print "  " ++count "  " $2; fflush() }
    /^Installing collected packages/ { print "  installing " count " packages"; fflush() }'
status=$(sed -n 's/^pip exit status //p' "$log" | tail -n 1)
[ "$status" = 0 ] && exit 0
echo "pip could not install $what. Its last lines were:" >&2
grep -v '^pip exit status' "$log" | tail -n 15 >&2
exit 1
