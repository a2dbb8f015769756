# shellcheck shell=bash
# What ./run and ./test have in common: install what is missing, and say so. Sourced, from the root of the checkout.
#
#   need_packages NAME…      Debian packages; as root on Debian the missing ones are installed
#   need_venv FILE           .venv with what FILE locks, by hash, and the command orthanc-deid; a second call takes no time
#   need_hostid              /etc/hostid, without which DCMTK looks the host's name up for every new UID

say() { printf '%s\n' "$*" >&2; }
fail() { say "$0: $*"; exit 1; }

undo=()
cleanup() {
	local step
	for step in "${undo[@]}"; do $step; done
	undo=()
}
trap cleanup EXIT

missing_packages() {
	local name
	for name in "$@"; do
		[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s ' "$name"
	done
}

need_packages() {
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		elsewhere "$@"
		return
	fi
	local missing
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || fail "these Debian packages are missing; as root: apt-get install --no-install-recommends ${missing% }"
	say "installing Debian packages: ${missing% }"

	# Debian's packages start services when they are installed, on the ports that are wanted here; one that runs already,
	# of whatever origin, stays untouched.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		undo+=("rm -f /usr/sbin/policy-rc.d")
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq -o DPkg::Lock::Timeout=300 update
	# shellcheck disable=SC2086 # names of packages, one by one
	apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends $missing >&2
	case " $missing" in
	*" orthanc "*)
		# The service of the package that was installed just now would take the ports at the next boot.
		if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
			systemctl disable --now --quiet orthanc.service
		elif command -v update-rc.d >/dev/null; then
			update-rc.d orthanc disable
		fi
		;;
	esac
	case " $missing" in
	*" postgresql "*)
		# The tests start servers of their own from its programs; a cluster that was made just now need not run.
		if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
			systemctl disable --now --quiet postgresql.service
		elif command -v update-rc.d >/dev/null; then
			update-rc.d postgresql disable
		fi
		;;
	esac
	cleanup
}

# Not Debian: nothing is installed for others, but what is needed can be named.
elsewhere() {
	local lacking=""
	[ -x /usr/sbin/Orthanc ] || [ -x /usr/bin/Orthanc ] || lacking+=" Orthanc (1.10.1 or later, with its Python and DICOMweb plugins in /usr/share/orthanc/plugins);"
	command -v dcmsend >/dev/null || lacking+=" DCMTK (dcmsend);"
	case " $* " in *" postgresql "*) command -v postgres >/dev/null || lacking+=" PostgreSQL 13 or later (postgres, initdb);" ;; esac
	find_python >/dev/null || lacking+=" Python 3.11 or later, with venv;"
	[ -z "$lacking" ] || fail "this is not Debian, so install by hand:${lacking%;}"
}

find_python() {
	local candidate
	for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
		if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			printf '%s\n' "$candidate"
			return 0
		fi
	done
	return 1
}

need_venv() {
	local python stamp want
	stamp=".venv/installed-${1%.txt}"
	if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
		python=$(find_python) || fail "no Python 3.11 or later with venv; on Debian 12: apt-get install python3 python3-venv"
		say "making .venv with $("$python" --version)"
		rm -rf .venv
		"$python" -m venv .venv
	fi
	want="$(.venv/bin/python -VV) $(cat "$1" pyproject.toml | sha256sum) $PWD"
	[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return 0
	say "installing Python packages into .venv: $1"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$1"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	printf '%s\n' "$want" >"$stamp"
}

need_hostid() {
	[ ! -s /etc/hostid ] || return 0
	if [ "$(id -u)" = 0 ]; then
		say "writing /etc/hostid"
		head -c 4 /dev/urandom >/etc/hostid
	else
		say "note: /etc/hostid is missing, so Orthanc may be slow; as root: head -c 4 /dev/urandom > /etc/hostid"
	fi
}

# What both commands need: an Orthanc with its plugins, a sender, a Python.
PACKAGES=(python3 python3-venv ca-certificates orthanc orthanc-python orthanc-dicomweb dcmtk)
