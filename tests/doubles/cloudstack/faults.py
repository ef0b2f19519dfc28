# SPDX-License-Identifier: Apache-2.0
"""Misbehaviour on order.  A fault hits the next `count` matching requests, then it is used up.

Faults are kept in the state, so a restarted double still misbehaves as told.

  on the request   error {code,text}  the API refuses, nothing is done
                   drop-before        the connection closes, nothing is done
                   drop-after         it is done, then the connection closes without an answer
                   delay {seconds}    the answer comes late
                   hang               it is done, the answer never comes (until the caller gives up)
                   http {status,text} something in between answers with HTML; nothing is done
                   throttle           429, as api.throttling does
  on the job       job-fail {code,text}        the host refuses: failed, without effect
                   job-fail-after {code,text}  reported as failed although it took effect
                   job-vanish                  done, but the job is unknown afterwards
                   job-lost                    as after a restart: 530 without a jobresult, without effect
                   job-delay {seconds}         the job takes longer
                   job-undone                  attach, detach: done, and just then an older call of the opposite kind takes
                                               effect (CloudStack #14214)
  on the hot-plug  hotplug-never, hotplug-late {seconds}, hotplug-no-serial, hotplug-wrong-size
"""

REQUEST = {"error", "drop-before", "drop-after", "delay", "hang", "http", "throttle"}
JOB = {"job-fail", "job-fail-after", "job-vanish", "job-lost", "job-delay", "job-undone"}
HOTPLUG = {"hotplug-never", "hotplug-late", "hotplug-no-serial", "hotplug-wrong-size"}
KNOWN = REQUEST | JOB | HOTPLUG


class Faults:
    def __init__(self, store):
        self.store = store

    def add(self, fault):
        """Accepts {command, action, count=1, match={parameter: value}, ...}; ValueError when unknown."""
        if fault.get("action") not in KNOWN:
            raise ValueError(f"unknown action {fault.get('action')!r}; one of {sorted(KNOWN)}")
        row = {"command": "*", "count": 1, "match": {}, "hits": 0, **fault}
        if not isinstance(row["count"], int) or not isinstance(row["match"], dict):
            raise ValueError("count must be a number and match an object")
        with self.store.lock:
            self.store.data["faults"].append(row)
            self.store.save()
        return row

    def clear(self):
        with self.store.lock:
            self.store.data["faults"].clear()
            self.store.save()

    def take(self, command, params, actions):
        """The first live fault for this command whose action is among `actions`, counted; or None."""
        with self.store.lock:
            for row in self.store.data["faults"]:
                if row["count"] <= 0 or row["action"] not in actions or row["command"] not in ("*", command):
                    continue
                if any(str(params.get(k.lower())) != str(v) for k, v in row["match"].items()):
                    continue
                row["count"] -= 1
                row["hits"] += 1
                self.store.save()
                return dict(row)
        return None
