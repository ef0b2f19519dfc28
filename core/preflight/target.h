/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a VM can be put where a job wants it at CloudStack, from facts alone: the volume agent gathers them
 * (volume-agent/preflight/). Nothing is asked and nothing is changed here. Codes are listed in docs/cloudstack.md. Pure.
 */
#ifndef DROVER_CORE_PREFLIGHT_TARGET_H
#define DROVER_CORE_PREFLIGHT_TARGET_H

#include "core/preflight/preflight.h"

/* Texts are borrowed and "" when nothing is known; so are arrays, which are empty then. */

/* One volume that the job needs, and the offering that it would be made from. */
typedef struct {
    const char *disk_id;
    int32_t disk_key;       /* of the source, for the finding; 0: none */
    uint64_t size_bytes;    /* at least; 0: not known */
    const char *wanted;     /* offering asked for; "": the agent's choice */
    const char *offering;   /* name of the one that was found; "": none */
    const char *tags;       /* storage tags of the offering, separated by commas */
    bool custom_size;       /* the offering takes any size */
    bool custom_iops;       /* the offering wants IOPS in the request, which nobody gives */
    bool local;             /* the offering is for storage of single hosts */
    uint64_t offering_bytes; /* of a fixed size */
    const char *volume_id;  /* a volume that exists already; "": it will be made */
    const char *pool_id;    /* where that one lies; "": nowhere yet */
} DroverTargetDisk;

typedef struct {
    const char *id, *name;
    const char *scope;      /* CLUSTER, ZONE, HOST */
    const char *cluster_id;
    const char *zone_id;
    const char *tags;
    bool up;
    bool managed;           /* CloudStack makes one LUN a volume there, and moves no root disks */
    uint64_t capacity_bytes; /* that may be allocated, overprovisioning included */
    uint64_t allocated_bytes;
    uint64_t size_bytes;    /* physical */
    uint64_t used_bytes;
} DroverTargetPool;

typedef struct {
    const char *name;
    const char *cluster_id;
    const char *tags;
    bool up;                /* and enabled */
    bool uefi;
    unsigned cpus;
    uint64_t memory_bytes;
} DroverTargetHost;

/* A network card that some VM has in a network. */
typedef struct {
    const char *vm_name;
    const char *mac, *ip;
} DroverTargetTaken;

typedef struct {
    const char *wanted;     /* as asked; "": the agent's choice */
    const char *name;       /* of the one that was found; "": none */
    const char *account;    /* that owns it; "": shared by all */
    bool can_deploy;
    const char *cidr, *gateway;
    GArray *taken;          /* DroverTargetTaken; NULL: nobody is there */
} DroverTargetNetwork;

/* A network card of the source, which is to be in the network of the same place in the list. */
typedef struct {
    const char *mac, *ip;
    bool keep;              /* the target must get these: what stands against it is an error, else a warning */
} DroverTargetNic;

/* What an account may still have; -1: without limit, or not known. */
typedef struct {
    const char *account;
    bool for_vm;            /* the VM will be this account's */
    bool for_volumes;       /* so will the volumes, at least while they are written */
    int64_t vms, volumes, storage_gib, cpus, memory_mib, ips;
} DroverTargetQuota;

typedef struct {
    /* asked */
    bool wants_vm;          /* else only volumes are made */
    const char *name;       /* of the VM */
    const char *boot_type, *boot_mode; /* "": BIOS, LEGACY */
    const char *firmware;   /* of the source: bios, efi; "": not known */
    bool secure_boot;
    const char *guest_id;   /* as vSphere calls it; "": not known */
    const char *account;    /* that the VM shall belong to; "": the agent's own */
    /* rights */
    const char *const *missing_apis; /* calls that the agent will need and may not make; NULL: not asked */
    bool pools_known, hosts_known;   /* the agent may list them */
    /* where */
    bool appliance_known;   /* CloudStack shows the agent its own VM; nothing else can be judged without */
    const char *zone;       /* as asked */
    const char *zone_id;    /* "": CloudStack has no such zone */
    const char *appliance_zone_id;
    const char *appliance_cluster_id; /* "": not known */
    const char *appliance_cluster;
    const char *hypervisor; /* of that cluster */
    const char *vm_id;      /* a VM that exists already; "": it will be made */
    const char *vm_cluster_id; /* of that one; "": it is in none yet */
    bool account_known;
    const char *account_problem; /* what CloudStack says of it; NULL: nothing */
    /* offered */
    const char *template_wanted, *template_name;
    bool template_ready;
    const char *template_hypervisor, *template_os_type;
    const char *service_wanted, *service_name;
    const char *service_host_tags;
    bool service_custom;    /* wants numbers in the request */
    bool service_complete;  /* which the job's details have, or which are not needed */
    unsigned cpus;          /* of the VM to be; 0: not known */
    uint64_t memory_bytes;
    const char *os_type_wanted;
    bool os_type_known;
    const char *const *os_types; /* descriptions; NULL: not asked */
    uint64_t custom_min_gib, custom_max_gib; /* of volumes from offerings of any size; 0: not known */
    uint64_t volume_max_gib;                 /* of any volume; 0: not known */
    const char *name_taken_by; /* id of the VM that has the name where it must be unique; "": it is free */
    GArray *disks;          /* DroverTargetDisk, the root disk first */
    GArray *pools;          /* DroverTargetPool */
    GArray *hosts;          /* DroverTargetHost */
    GArray *networks;       /* DroverTargetNetwork */
    GArray *nics;           /* DroverTargetNic */
    GArray *quotas;         /* DroverTargetQuota */
} DroverTargetFacts;

/* Findings about a target, errors first; DroverFinding. */
GPtrArray *drover_preflight_target(const DroverTargetFacts *facts);

/* The description of CloudStack's OS type that fits vSphere's GUEST_ID, as one of OS_TYPES; NULL: nothing fits. */
const char *drover_os_type_for(const char *guest_id, const char *const *os_types);

#endif
