#!/bin/sh
# debian.sh PACKAGE PROGRAM prints the path of a program: an installed one, else that of Debian's package, unpacked with
# the libraries that it needs below .tools/debian/PACKAGE, without root.
# Where neither can be had it says why, and ends with status 3.
set -eu
package=$1 program=$2
cd "$(dirname "$0")/.."
root=$PWD/.tools/debian/$package

unpacked() {
  for folder in bin sbin; do
    if [ -x "$root/usr/$folder/$program" ]; then echo "$root/usr/$folder/$program" && return; fi
  done
  return 1
}

# The package and what an installation would add; not what has no architecture, which is no library.
download() {
  wanted=$($apt "$@" install --simulate --no-install-recommends "$package" | awk '/^Inst/ && !/\[all\]/ { print $2 }')
  [ -n "$wanted" ] || wanted=$package
  $apt "$@" download $wanted
}

if command -v "$program" || unpacked; then
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "no $program: neither installed, nor is there an apt-get to take Debian's package $package from" >&2
  exit 3
fi
own=$PWD/.tools/apt
rm -rf "$root" "$root.part"
mkdir -p "$root.part/packages" "$own/lists/partial" "$own/archives/partial"
apt="timeout 120 apt-get -qq -o Acquire::Retries=2 -o Acquire::http::Timeout=20"
# A machine that has never looked has no lists, and only root may fetch them to where they belong.
set -- -o "Dir::State::lists=$own/lists" -o "Dir::Cache=$own"
(cd "$root.part/packages" && { download || { $apt "$@" update && download "$@"; }; }) >&2 || {
  echo "no $program: apt-get cannot download Debian's package $package here" >&2
  exit 3
}
for each in "$root.part/packages"/*.deb; do dpkg -x "$each" "$root.part" >&2; done
mv "$root.part" "$root"
unpacked || { echo "no $program: Debian's package $package has none" >&2 && exit 3; }
