#!/bin/sh
# Installs orthanc-deid for an Orthanc of this machine or image: the plugin's script, the package, and a virtual
# environment with the locked requirements, made with this system's own Python. The image is built with it
# (plugin/Dockerfile), and it serves an Orthanc that runs already just as well.
#
#   sh plugin/install.sh [PREFIX]        PREFIX is /opt/orthanc-deid unless given; PYTHON names another interpreter
#
# A second call brings an older installation up to date; stop Orthanc first. It writes nothing outside PREFIX, except that
# it installs Debian's python3-venv, as root, where that is missing.
set -eu

prefix=${1:-/opt/orthanc-deid}
python=${PYTHON:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

case $prefix in
/*) ;;
*) fail "PREFIX must be an absolute path, not $prefix" ;;
esac
for needed in requirements.txt LICENSE plugin/orthanc_deid_plugin.py plugin/orthanc_deid/__init__.py; do
	[ -f "$source/$needed" ] || fail "$source/$needed is missing; run this from a complete checkout"
done

command -v "$python" >/dev/null || fail "there is no $python; install Python 3.11 or later, or name one in PYTHON"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is Python $version; 3.11 or later is needed"

# Debian keeps ensurepip in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
		fail "$python cannot make virtual environments; install python$version-venv, then try again"
	echo "install.sh: installing python$version-venv"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -qq --yes --no-install-recommends "python$version-venv"
fi

mkdir -p "$prefix"

# The virtual environment is made anew when the requirements or the Python change; the mark comes last, so that one whose
# making was interrupted is made again.
wanted="$version $(cksum <"$source/requirements.txt")"
if [ "$(cat "$prefix/venv/installed" 2>/dev/null || true)" != "$wanted" ]; then
	echo "install.sh: virtual environment in $prefix/venv (Python $version)"
	rm -rf "$prefix/venv"
	"$python" -m venv "$prefix/venv"
	"$prefix/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
		--only-binary :all: --require-hashes --no-deps --requirement "$source/requirements.txt"
	echo "$wanted" >"$prefix/venv/installed"
fi

# Files of an older version must not stay beside the new ones. Links are followed: profiles lie elsewhere in the checkout.
rm -rf "$prefix/orthanc_deid.new"
cp -RL "$source/plugin/orthanc_deid" "$prefix/orthanc_deid.new"
find "$prefix/orthanc_deid.new" -name __pycache__ -type d -prune -exec rm -rf {} +
rm -rf "$prefix/orthanc_deid"
mv "$prefix/orthanc_deid.new" "$prefix/orthanc_deid"
for file in orthanc_deid_plugin.py explorer.js healthcheck.py; do
	cp "$source/plugin/$file" "$prefix/$file"
done
cp "$source/LICENSE" "$prefix/LICENSE"

mkdir -p "$prefix/bin"
cat >"$prefix/bin/orthanc-deid" <<END
#!/bin/sh
PYTHONPATH="$prefix\${PYTHONPATH:+:\$PYTHONPATH}" exec "$prefix/venv/bin/python" -m orthanc_deid "\$@"
END
chmod 755 "$prefix/bin/orthanc-deid"
# Orthanc's user may read everything here and write nothing, so what can be compiled is compiled now.
"$prefix/venv/bin/python" -m compileall -q "$prefix/orthanc_deid"
chmod -R u=rwX,go=rX "$prefix"

"$prefix/bin/orthanc-deid" --help >/dev/null || fail "$prefix/bin/orthanc-deid does not run"

cat <<END
install.sh: installed in $prefix. Orthanc's configuration needs:

  "PythonScript": "$prefix/orthanc_deid_plugin.py",
  "Deid": { "Python": "$prefix/venv/bin/python", "Projects": { } }

The command is $prefix/bin/orthanc-deid.
END
