/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the rules, and those about rights, names, templates and offerings. */
#include "core/preflight/target.h"

#include <string.h>

#include "core/preflight/target_rules.h"
#include "lib/base/ids.h"

bool drover_tags_cover(const char *has, const char *wanted)
{
    g_auto(GStrv) have = g_strsplit(has, ",", -1);
    g_auto(GStrv) want = g_strsplit(wanted, ",", -1);
    for (char **tag = have; *tag; tag++)
        g_strstrip(*tag);
    for (char **tag = want; *tag; tag++)
        if (*g_strstrip(*tag) && !g_strv_contains((const char *const *)have, *tag))
            return false;
    return true;
}

static void check_rights(DroverPreflight *p, const DroverTargetFacts *f)
{
    if (f->missing_apis && *f->missing_apis) {
        g_autofree char *list = g_strjoinv(", ", (char **)f->missing_apis);
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-RIGHTS", 0,
                    "the agent's account may not call: %s. Give its role these, or use a root admin's keys", list);
    }
    if (!f->pools_known || !f->hosts_known)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-UNSEEN", 0,
                    "the agent's account may not list %s, so nobody can tell here whether storage and hosts suit",
                    f->pools_known ? "hosts" : f->hosts_known ? "storage pools" : "storage pools and hosts");
}

static void check_zone(DroverPreflight *p, const DroverTargetFacts *f)
{
    if (!*f->zone_id)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-ZONE", 0,
                    "CloudStack has no zone '%s' that this agent may use: correct zone in the job's target", f->zone);
    else if (strcmp(f->zone_id, f->appliance_zone_id) != 0)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-PLACEMENT-ZONE", 0,
                    "zone %s is not the agent's, whose appliance could not attach a volume made there: name an agent of that "
                    "zone", *f->zone ? f->zone : f->zone_id);
}

static void check_name(DroverPreflight *p, const DroverTargetFacts *f)
{
    if (!drover_vm_name_is_valid(f->name))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-NAME", 0,
                    "'%s' is no name that CloudStack takes for a VM: 1 to 63 letters, digits and '-', a letter first, no '-' "
                    "last", f->name);
    else if (*f->name_taken_by)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-NAME-TAKEN", 0,
                    "VM %s is called '%s' already, where the name must be unique: choose another name, or rename that VM",
                    f->name_taken_by, f->name);
}

static void check_account(DroverPreflight *p, const DroverTargetFacts *f)
{
    if (f->account_problem)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-ACCOUNT", 0, "%s",
                    g_str_has_prefix(f->account_problem, "DRV-TARGET-ACCOUNT: ") ? f->account_problem + 20
                                                                                 : f->account_problem);
    else if (*f->account && !f->account_known)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-ACCOUNT", 0,
                    "CloudStack has no account or project '%s' in that domain: correct the job's target", f->account);
}

static void check_template(DroverPreflight *p, const DroverTargetFacts *f)
{
    const char *wanted = f->template_wanted;
    if (!*f->template_name) {
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-TEMPLATE", 0,
                    "the zone has no template %s%s%s that this agent may use: any small one will do, its disk is replaced",
                    *wanted ? "'" : "at all", wanted, *wanted ? "'" : "");
        return;
    }
    if (!f->template_ready)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-TEMPLATE-STATE", 0,
                    "template '%s' is not ready in the zone: wait for its download, or choose another one",
                    f->template_name);
    if (*f->hypervisor && *f->template_hypervisor &&
        g_ascii_strcasecmp(f->hypervisor, f->template_hypervisor) != 0)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-TEMPLATE-HYPERVISOR", 0,
                    "template '%s' is for %s, and the appliance's cluster runs %s: choose another one", f->template_name,
                    f->template_hypervisor, f->hypervisor);
}

static void check_service_offering(DroverPreflight *p, const DroverTargetFacts *f)
{
    const char *wanted = f->service_wanted;
    if (!*f->service_name)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-SERVICE-OFFERING", 0,
                    "CloudStack has no service offering %s%s%s for this agent: name one in the job's target",
                    *wanted ? "'" : "of fixed size", wanted, *wanted ? "'" : "");
    else if (f->service_custom && !f->service_complete)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-OFFERING-CUSTOM", 0,
                    "service offering '%s' leaves CPUs and memory open: give cpuNumber and memory (and cpuSpeed, where the "
                    "offering has none) in the target's details, or choose one of fixed size", f->service_name);
}

GPtrArray *drover_preflight_target(const DroverTargetFacts *f)
{
    g_autoptr(GPtrArray) findings = g_ptr_array_new();
    DroverPreflight p = {.findings = findings};
    check_rights(&p, f);
    if (!f->appliance_known) {
        drover_find(&p, DROVER_FINDING_ERROR, "DRV-TARGET-APPLIANCE", 0,
                    "CloudStack shows the agent's account no VM of the id in [agent] appliance-vm-id: correct it, or use keys of "
                    "the account that owns the appliance");
        return drover_findings_by_severity(findings);
    }
    check_zone(&p, f);
    drover_target_disks(&p, f);
    if (f->pools_known) {
        drover_target_pools(&p, f);
        drover_target_placement(&p, f);
    }
    check_account(&p, f);
    drover_target_quotas(&p, f);
    if (!f->wants_vm)
        return drover_findings_by_severity(findings);
    if (!*f->vm_id) {
        check_name(&p, f);
        check_template(&p, f);
        check_service_offering(&p, f);
        drover_target_os_type(&p, f);
        drover_target_networks(&p, f);
    }
    drover_target_firmware(&p, f);
    if (f->hosts_known)
        drover_target_hosts(&p, f);
    return drover_findings_by_severity(findings);
}
