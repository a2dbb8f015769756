"""The command `check`: is the configuration right? Orthanc waits for the answer before it starts."""

from __future__ import annotations

import argparse
import json

from orthanc_deid import startup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="Orthanc's configuration (file or folder), or - for the plugin's line",
    )


def run(args: argparse.Namespace) -> int:
    """Check, and say so. Raises ConfigError with every fault."""
    config = startup.read(args.config).configure()
    if config.gateway is not None:
        # The plugin reads this line: what it needs, resolved here and nowhere else.
        told = {
            "Spool": str(config.gateway.spool),
            "MaximumSize": config.gateway.maximum_size,
            "MinimumFree": config.gateway.minimum_free,
            "Titles": config.by_titles,
        }
        print(f"gateway: {json.dumps(told)}")
    print("valid; projects: " + (", ".join(sorted(config.projects)) or "none"))
    return 0
