#!/bin/sh
# Prints the path of promtool: an installed one, else that of Debian's package, unpacked below .tools without root.
# Where neither can be had it says why, and ends with status 3.
set -eu
cd "$(dirname "$0")/../.."
folder=.tools/kube/prometheus
unpacked=$folder/usr/bin/promtool

if command -v promtool; then
  exit 0
fi
if [ ! -x "$unpacked" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "no promtool: neither installed, nor is there an apt-get to take Debian's package prometheus from" >&2
    exit 3
  fi
  mkdir -p .tools/kube/download .tools/apt/lists/partial .tools/apt/archives/partial
  apt="timeout 120 apt-get -qq -o Acquire::Retries=2 -o Acquire::http::Timeout=20"
  # A machine that has never looked has no lists, and only root may fetch them to where they belong.
  own="-o Dir::State::lists=$PWD/.tools/apt/lists -o Dir::Cache=$PWD/.tools/apt"
  (
    cd .tools/kube/download
    rm -f prometheus_*.deb
    $apt download prometheus || { $apt $own update && $apt $own download prometheus; }
  ) >&2 || {
    echo "no promtool: apt-get cannot download Debian's package prometheus here" >&2
    exit 3
  }
  dpkg -x .tools/kube/download/prometheus_*.deb "$folder" >&2
fi
echo "$unpacked"
