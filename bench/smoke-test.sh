#!/bin/bash
# The bench runs, and what it writes can be read. Usage: smoke-test.sh VELLUM-BENCH VELLUM
set -euo pipefail
json=$(mktemp)
trap 'rm -f "$json"' EXIT
"$1" --quick --binary "$2" --systems kernel,vellum --workloads mkdir --rounds 1 --json "$json"
python3 - "$json" <<'PYTHON'
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
assert {cell["system"] for cell in cells} == {"kernel", "vellum"}, cells
assert all(run["seconds"] > 0 for cell in cells for run in cell["runs"]), cells
PYTHON
