"""One HTTP connection of a machine's, which QEMU hands over as standard input: python3 served.py DIRECTORY"""

import http.server
import socket
import sys
from functools import partial


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # apt and cloud-init ask for one file after the other

    def log_message(self, *_arguments):
        """Says nothing: standard error is the connection, too."""


partial(Handler, directory=sys.argv[1])(socket.socket(fileno=0), ("machine", 0), None)
