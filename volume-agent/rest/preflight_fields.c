/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/preflight.h"

#define LARGEST_VOLUME (INT64_C(1) << 50)

static const DroverRestField disk_fields[] = {
    {"disk_id", DROVER_FIELD_NAME, .required = true},
    {"size_bytes", DROVER_FIELD_NUMBER, .required = true, .minimum = 1, .limit = LARGEST_VOLUME},
    {"disk_offering", DROVER_FIELD_TEXT, .limit = 255},
    {"disk_key", DROVER_FIELD_NUMBER, .limit = INT32_MAX},
    {"volume_id", DROVER_FIELD_UUID},
    {0},
};
static const DroverRestField nic_fields[] = {
    {"mac", DROVER_FIELD_TEXT, .limit = 64}, {"ip", DROVER_FIELD_TEXT, .limit = 64}, {"keep", DROVER_FIELD_FLAG}, {0}};

const DroverRestField drover_rest_preflight_fields[] = {
    {"name", DROVER_FIELD_TEXT, .required = true, .limit = 255},
    {"disks", DROVER_FIELD_LIST, .required = true, .limit = 64, .of = disk_fields},
    {"nics", DROVER_FIELD_LIST, .limit = 16, .of = nic_fields},
    {"volumes_only", DROVER_FIELD_FLAG},
    {"vm_id", DROVER_FIELD_UUID},
    {"firmware", DROVER_FIELD_TEXT, .limit = 16},
    {"secure_boot", DROVER_FIELD_FLAG},
    {"guest_id", DROVER_FIELD_TEXT, .limit = 64},
    {"zone", DROVER_FIELD_TEXT, .limit = 255},
    {"service_offering", DROVER_FIELD_TEXT, .limit = 255},
    {"cpus", DROVER_FIELD_NUMBER, .minimum = 1, .limit = 4096},
    {"cpu_mhz", DROVER_FIELD_NUMBER, .minimum = 1, .limit = 100000},
    {"memory_mib", DROVER_FIELD_NUMBER, .minimum = 1, .limit = 1 << 30},
    {"template", DROVER_FIELD_TEXT, .limit = 255},
    {"networks", DROVER_FIELD_LIST, .limit = 16},
    {"os_type", DROVER_FIELD_TEXT, .limit = 255},
    {"account", DROVER_FIELD_TEXT, .limit = 100},
    {"domain_id", DROVER_FIELD_UUID},
    {"project_id", DROVER_FIELD_UUID},
    {"boot_type", DROVER_FIELD_TEXT, .limit = 16},
    {"boot_mode", DROVER_FIELD_TEXT, .limit = 16},
    {0},
};
