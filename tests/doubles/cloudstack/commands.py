# SPDX-License-Identifier: Apache-2.0
"""The command table: each command with its parameters, checked as the parameter worker checks them.

A parameter is (name, type, required): "uuid:<table>", "uuids:<table>", "long", "boolean", "string", "map".
Unknown parameters are ignored, as by the real one; unknown ids are 431 before the command runs.
"""
import re

import errors

MAX_LENGTH = 255
LONG_PARAMETERS = {"userdata": 1048576, "extraconfig": 5120}
# The real server names the Java field, not the parameter, in the text about lengths.
FIELD_NAMES = {("createVolume", "name"): "volumeName"}
READS = re.compile(r"^(list|get|query|find)")


class Command:
    """One API command.  handler(cloud, account, args) -> the answer's content."""

    def __init__(self, name, params, handler, *, is_async=False, admin=False, description=""):
        self.name = name
        self.params = params
        self.handler = handler
        self.is_async = is_async
        self.admin = admin
        self.description = description

    @property
    def reads(self):
        return bool(READS.match(self.name))


class Args(dict):
    """Parsed parameters: ids resolved to rows, numbers to int; absent ones are None."""

    def __missing__(self, key):
        return None


TABLE = {}


def command(name, *params, **options):
    """Decorator that enters a handler into the table; params as "name", "name*" (required) + ":" + type."""
    parsed = []
    for text in params:
        param, _, kind = text.partition(":")
        parsed.append((param.rstrip("*"), kind or "string", param.endswith("*")))

    def enter(handler):
        TABLE[name] = Command(name, parsed, handler, **options)
        return handler
    return enter


def _entity(store, cmd, name, kind, value, account):
    table = kind.partition(":")[2]
    if table == "projects" and value == "-1":
        return {"account": None}  # all projects
    if table == "accounts":
        row = next((a for a in store.data["accounts"].values() if a["id"] == value), None)
    else:
        row = store.find(table, value)
    if row is None and cmd.name.startswith("list") and value.isdigit():
        return {"id": None}  # an internal number of something that is not listed: an empty answer [201]
    if row is None:
        raise errors.bad_entity(cmd.name, name, value)
    if not cmd.reads and table in ("volumes", "vms", "snapshots") and cmd.name != "detachVolume" \
            and not account["admin"] and row["account"] != account["name"]:
        raise errors.permission()
    return row


def parse(store, cmd, raw, account):
    """raw: lower-cased name -> text (map parameters keep their keys' case).  Returns Args."""
    args = Args()
    for name, kind, required in cmd.params:
        if kind == "map":
            prefix = name + "["
            args[name] = {key: value for key, value in raw.items() if key.startswith(prefix)} or None
            if required and not args[name]:
                raise errors.missing(cmd.name, name)
            continue
        value = raw.get(name)
        if value is None or value == "":
            if required:
                raise errors.missing(cmd.name, name)
            continue
        limit = LONG_PARAMETERS.get(name, MAX_LENGTH)
        if kind == "long":
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
                raise errors.bad_number(cmd.name, name, value)
            args[name] = int(value)
        elif kind == "boolean":
            args[name] = value.lower() == "true"
        elif kind.startswith("uuids:"):
            args[name] = [_entity(store, cmd, name, kind, item.strip(), account) for item in value.split(",")]
        elif kind.startswith("uuid:"):
            args[name] = _entity(store, cmd, name, kind, value, account)
        else:
            if len(value) > limit:
                raise errors.too_long(cmd.name, FIELD_NAMES.get((cmd.name, name), name), limit)
            args[name] = value
    return args


def details_of(map_param, name="details"):
    """details[0].rootDiskController=scsi ... -> {"rootDiskController": "scsi"}."""
    out = {}
    for key, value in (map_param or {}).items():
        inner = re.fullmatch(re.escape(name) + r"\[\d+\]\.(.+)", key)
        if inner:
            out[inner.group(1)] = value
    return out


def groups_of(map_param, name):
    """iptonetworklist[0].networkid=..., [0].ip=... -> [{"networkid": ..., "ip": ...}] in index order."""
    out = {}
    for key, value in (map_param or {}).items():
        inner = re.fullmatch(re.escape(name) + r"\[(\d+)\]\.(.+)", key)
        if inner:
            out.setdefault(int(inner.group(1)), {})[inner.group(2).lower()] = value
    return [out[index] for index in sorted(out)]


def lower_names(params):
    """Names lower-cased, except what follows the index of a map parameter, which is data."""
    out = {}
    for name, value in params.items():
        head, bracket, tail = name.partition("[")
        out.setdefault(head.lower() + bracket + tail, value)
    return out


def page(rows, args, key):
    """The list conventions: {} when empty, count of all, and no array past the end."""
    number, size = args["page"], args["pagesize"]
    if number is not None and size is None:
        raise errors.parameter('"pagesize" parameter is required when "page" is specified')
    if size is not None and number is None:
        raise errors.parameter('"page" parameter is required when "pagesize" is specified')
    if size is not None and size > 500:
        raise errors.parameter("Page size can't exceed max allowed page size value: 500")
    if not rows:
        return {}
    start, size = ((number - 1) * size, size) if number else (0, 500)
    part = rows[start:start + size]
    return {"count": len(rows), key: part} if part else {"count": len(rows)}


PAGING = ("page:long", "pagesize:long", "keyword", "listall:boolean")


def is_project(account_name):
    """Projects own things through accounts of their own, which have names like these."""
    return account_name.startswith("PrjAcct-")


def mine(rows, account, args, by_id=False):
    """What a list shows: one's own, and for a root admin everything with listall or by id; what is a project's only by its id,
    or when that project is named."""
    if args["projectid"]:
        return [row for row in rows if is_project(row["account"]) and row["account"] == (args["projectid"]["account"] or row["account"])]
    if account["admin"] and (args["listall"] or by_id):
        return [row for row in rows if by_id or not is_project(row["account"])]
    return [row for row in rows if row["account"] == account["name"]]


def matching(rows, args):
    """name= is exact, keyword= a substring, case-insensitive."""
    if args["name"]:
        rows = [row for row in rows if row["name"].lower() == args["name"].lower()]
    if args["keyword"]:
        rows = [row for row in rows if args["keyword"].lower() in row["name"].lower()]
    return rows
