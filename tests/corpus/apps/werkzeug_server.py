"""The Flask target under Werkzeug's own server: `python -m tests.corpus.apps.werkzeug_server FD`."""

from __future__ import annotations

import sys

from werkzeug.serving import make_server

from tests.corpus.apps.flask_app import create

if __name__ == "__main__":
    make_server("127.0.0.1", 0, create(), fd=int(sys.argv[1]), threaded=True).serve_forever()
