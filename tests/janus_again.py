"""janus again and again in one process, which saves its start: a request a line, its end a line.

A request is JSON: {"args": [...], "env": {...}, "folder": "...", "set": {"module.NAME": value}}.
"""

import importlib
import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

from janus_cli.__main__ import main

for line in sys.stdin:
    request = json.loads(line)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    for name, value in request["set"].items():
        module, _, variable = name.rpartition(".")
        setattr(importlib.import_module(f"janus_cli.{module}"), variable, value)
    sys.argv[1:] = request["args"]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main()
    print(json.dumps([int(code), out.getvalue(), err.getvalue()]), flush=True)
