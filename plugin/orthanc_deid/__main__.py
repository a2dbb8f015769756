"""`python -m orthanc_deid` is the command `orthanc-deid`: so the plugin starts the service, whatever is on PATH."""

import sys

from orthanc_deid.cli import main

if __name__ == "__main__":
    sys.exit(main())
