#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Follows a job in Redis until it has ended.  watch_progress.py HOST:PORT JOB_ID

Exits with 0 when the job completed, 1 when it did not. docs/redis.md describes every field.
"""
import json
import sys

import redis

address, job_id = sys.argv[1:]
host, port = address.rsplit(":", 1)
view = redis.Redis(host=host, port=int(port), decode_responses=True)
changes = view.pubsub(ignore_subscribe_messages=True)
changes.subscribe("drover:progress")
key = f"drover:job:{job_id}"

while True:
    job = view.hgetall(key)  # the hash is the truth; messages only say when to look again
    if "status" in job:
        eta = job["vma_eta_seconds"] or "unknown"
        print(f"{job['status']} {job['current_operation']} {job['progress_percent']} % "
              f"({job['bytes_transferred']} of {job['total_bytes']} bytes, {job['vma_throughput_mbps']} MB/s, ETA {eta})", flush=True)
        if job["status"] in ("completed", "failed", "cancelled", "rolled-back"):
            print(job["error_message"])
            sys.exit(0 if job["status"] == "completed" else 1)
    while True:
        message = changes.get_message(timeout=1)  # also look once a second, should a message be lost
        if message is None or json.loads(message["data"])["job_id"] == job_id:
            break
