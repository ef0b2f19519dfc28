#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Submits a migration from outside: one protobuf message to Kafka.  submit_job.py BROKERS JOB_ID NAME DISK...

The module drover.v1 is made by: protoc -I proto --python_out=DIR proto/drover/v1/*.proto; then PYTHONPATH=DIR.
"""
import os
import sys
import time

from confluent_kafka import Producer
from drover.v1.job_pb2 import DiskSpec, JobCommand, JobSpec

brokers, job_id, name, *disks = sys.argv[1:]
spec = JobSpec(name=name)
for path in disks:
    disk = DiskSpec()
    disk.source.file.path = os.path.abspath(path)  # as the workers see it
    if path.endswith(".raw"):  # a raw image cannot tell that its end is missing: say how long it is
        disk.source.file.format = "raw"
        disk.source.file.expected_size_bytes = os.path.getsize(path)
    spec.disks.append(disk)
command = JobCommand(job_id=job_id, submitted_at_ms=int(time.time() * 1000), submitter="submit_job.py", submit=spec)


def acknowledged(error, message):
    if error:
        sys.exit(f"Kafka did not take the job: {error}")
    print(job_id)  # from now on it is not lost


producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "message.timeout.ms": 15000})
topic = os.environ.get("DROVER_KAFKA_TOPIC_PREFIX", "drover") + ".jobs"
producer.produce(topic, key=job_id, value=command.SerializeToString(), on_delivery=acknowledged)
sys.exit(1 if producer.flush(20) else 0)
