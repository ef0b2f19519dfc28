#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A double of an Apache CloudStack management server with a KVM cluster below it.  See README.md."""
import argparse
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.parse
import xml.sax.saxutils
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import commands  # noqa: E402
import commands_deploy  # noqa: E402,F401
import commands_lists  # noqa: E402,F401
import commands_snapshots  # noqa: E402,F401
import commands_vms  # noqa: E402,F401
import commands_volumes  # noqa: E402,F401
import control  # noqa: E402
import errors  # noqa: E402
import signing  # noqa: E402
from cloud import Cloud  # noqa: E402
from faults import REQUEST  # noqa: E402

MAX_GET_BYTES = 8192
FORBIDDEN = ('<html>\n<head>\n<meta http-equiv="Content-Type" content="text/html;charset=ISO-8859-1"/>\n'
             "<title>Error 403 Forbidden</title>\n</head>\n<body><h2>HTTP ERROR 403 Forbidden</h2>\n</body>\n</html>\n")


def to_xml(body):
    """What callers get who forget response=json."""
    def element(name, value):
        if isinstance(value, list):
            return "".join(element(name, item) for item in value)
        inner = "".join(element(k, v) for k, v in value.items()) if isinstance(value, dict) else \
            xml.sax.saxutils.escape(str(value).lower() if isinstance(value, bool) else str(value))
        return f"<{name}>{inner}</{name}>"
    (name, content), = body.items()
    return f'<?xml version="1.0" encoding="UTF-8"?>{element(name, content)}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Jetty"
    sys_version = ""
    disable_nagle_algorithm = True
    cloud = None

    def log_message(self, *args):
        pass

    # -- answers -----------------------------------------------------------------------------------

    def _answer(self, status, text, content_type="application/json;charset=utf-8", headers=()):
        data = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _drop(self):
        """Close without an answer, as a server does that dies."""
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    # -- requests ----------------------------------------------------------------------------------

    def do_GET(self):
        self._serve(b"")

    def do_POST(self):
        self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _serve(self, body):
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/ctl/"):
            if not self.client_address[0].startswith("127."):
                return self._answer(403, FORBIDDEN, "text/html;charset=iso-8859-1")
            status, answer = control.handle(self.cloud, self.command, url.path, body)
            return self._answer(status, json.dumps(answer, indent=1) + "\n")
        if len(self.path) + sum(len(k) + len(v) for k, v in self.headers.items()) > MAX_GET_BYTES:
            self.close_connection = True
            return self._answer(414, "<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>",
                                "text/html;charset=iso-8859-1")
        if url.path == "/":
            return self._answer(301, "", "text/html", [("Location", "/client/")])
        if url.path != "/client/api":
            return self._answer(403, FORBIDDEN, "text/html;charset=iso-8859-1")
        params = {}
        form = body.decode("utf-8", "replace") if self.command == "POST" else ""
        for name, value in urllib.parse.parse_qsl(url.query, keep_blank_values=True) + \
                urllib.parse.parse_qsl(form, keep_blank_values=True):
            params.setdefault(name, value)
        return self._api(params)

    def _api(self, params):
        cloud, lowered = self.cloud, commands.lower_names(params)
        name = lowered.get("command")
        fault = cloud.faults.take(name, lowered, REQUEST) or {}
        action = fault.get("action")
        number = cloud.log.request(self.command, name, params, action)
        if action == "drop-before":
            return self._drop()
        if action == "delay":
            time.sleep(float(fault.get("seconds", 1)))
        if action == "http":
            cloud.log.answer(number, fault.get("status", 503), None)
            return self._answer(int(fault.get("status", 503)), fault.get("text", "<h1>Service Unavailable</h1>"),
                                "text/html;charset=iso-8859-1")
        status, body, description = self._run(name, params, lowered, fault)
        cloud.log.answer(number, status, body)
        if action == "drop-after":
            return self._drop()
        if action == "hang":
            time.sleep(float(fault.get("seconds", 3600)))
            return self._drop()
        headers = [("X-Description", description)] if description else []
        if lowered.get("response") == "json":
            return self._answer(status, json.dumps(body, ensure_ascii=False), headers=headers)
        return self._answer(status, to_xml(body), "text/xml;charset=utf-8", headers)

    def _run(self, name, params, lowered, fault):
        """Authenticate, check, execute.  Returns (HTTP status, body, X-Description)."""
        cloud = self.cloud
        key = f"{name.lower()}response" if name in commands.TABLE else "errorresponse"
        if name is None:
            key = "null"
        try:
            with cloud.store.lock:
                by_key = {a["apikey"]: a for a in cloud.store.data["accounts"].values()}
            if name not in commands.TABLE:
                raise errors.unauthorized()  # an unknown command looks the same [193]
            account = signing.verify(params, by_key, time.time(), enforce_post=cloud.options.enforce_post)
            return 200, {key: self._execute(commands.TABLE[name], lowered, account, fault)}, None
        except errors.ApiError as refusal:
            if refusal.code == 432:
                key = "errorresponse"
            return refusal.code, refusal.body(key), None if refusal.auth else refusal.text.replace("\n", " ")
        except Exception as bug:  # the caller sees a 530, the log of the double sees why
            traceback.print_exc(file=sys.stderr)
            return 530, errors.internal(f"double: {bug!r}").body(key), None

    def _execute(self, command, lowered, account, fault):
        if self.cloud.options.enforce_post and not command.reads:
            signing.require_post(command.name, self.command)
        if command.admin and not account["admin"]:
            raise errors.ApiError(432, f"The API [{command.name}] does not exist or is not available for the account "
                                  f"{account['name']}.", 9999)
        if fault.get("action") == "error":
            raise errors.ApiError(int(fault.get("code", 530)), fault.get("text", "Internal error executing command, "
                                  "please contact your system administrator"), fault.get("cserror", 9999))
        wait = self.cloud.throttle.check(account, fault.get("action") == "throttle")
        if wait is not None:
            raise errors.ApiError(429, "The given user has reached his/her account api limit, please retry after "
                                  f"[{wait}] ms.", 9999)
        with self.cloud.store.lock:
            args = commands.parse(self.cloud.store, command, lowered, account)
            args.raw = {k: v for k, v in lowered.items() if k not in ("signature", "apikey")}
            return command.handler(self.cloud, account, args)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="port 0: choose one")
    parser.add_argument("--dir", required=True, help="where the state and the volumes are")
    parser.add_argument("--port-file", help="write the port here when ready (atomically)")
    parser.add_argument("--appliance", default="", metavar="NAME[@CLUSTER],...",
                        help="appliance VMs to have running from the first start")
    parser.add_argument("--speed", type=float, default=1.0, help="divide every delay by this")
    parser.add_argument("--seed", type=int, default=None, help="for the order of jobs and other lots")
    parser.add_argument("--order", choices=("random", "lifo", "fifo"), default="random",
                        help="which waiting job of a VM goes next")
    parser.add_argument("--enforce-post", action="store_true",
                        help="as enforce.post.requests.and.timestamps=true")
    parser.add_argument("--throttle", default=None, metavar="MAX/SECONDS", help="as api.throttling.*; not for admins")
    parser.add_argument("--max-data-disks", type=int, default=32, help="of a VM; 32 on KVM, 6 in the recordings")
    parser.add_argument("--host-cpus", type=int, default=64, help="a VM with more finds no host")
    parser.add_argument("--tenant-volumes", type=int, default=0, help="volume quota that assignVolume checks; 0: none")
    parser.add_argument("--template-mib", type=int, default=2048, help="size of the template blank-linux")
    parsed = parser.parse_args()
    parsed.dir = os.path.abspath(parsed.dir)
    if parsed.speed <= 0:
        parser.error("--speed must be greater than 0")
    return parsed


def main():
    opts = options()
    os.makedirs(opts.dir, exist_ok=True)
    lock = open(os.path.join(opts.dir, "lock"), "w", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"{opts.dir} is in use by another double: stop it or choose another --dir")
    cloud = Cloud(opts)
    Handler.cloud = cloud
    host, _, port = opts.listen.rpartition(":")
    server = Server((host or "127.0.0.1", int(port)), Handler)
    port = server.server_address[1]
    if opts.port_file:
        with open(opts.port_file + ".new", "w", encoding="ascii") as file:
            file.write(f"{port}\n")
        os.replace(opts.port_file + ".new", opts.port_file)
    print(port, flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    os._exit(0)  # running jobs are lost, as in a restart of the real one


if __name__ == "__main__":
    main()
