/* SPDX-License-Identifier: Apache-2.0 */
/* Rules about networks, and about the addresses that network cards bring along. */
#include <string.h>

#include "core/preflight/target_rules.h"

static DroverSeverity weight(const DroverTargetNic *nic)
{
    return nic->keep ? DROVER_FINDING_ERROR : DROVER_FINDING_WARNING;
}

/* Twelve hex digits in lower case, or NULL: colons, dashes and dots are all in use. */
static char *mac_digits(const char *mac)
{
    g_autoptr(GString) digits = g_string_new(NULL);
    for (const char *at = mac; *at; at++) {
        if (g_ascii_isxdigit(*at))
            g_string_append_c(digits, g_ascii_tolower(*at));
        else if (!strchr(":-.", *at))
            return NULL;
    }
    return digits->len == 12 ? g_string_free(g_steal_pointer(&digits), FALSE) : NULL;
}

static bool same_mac(const char *digits, const char *other)
{
    g_autofree char *b = mac_digits(other);
    return b && strcmp(digits, b) == 0;
}

/* Dotted IPv4; false for anything else. */
static bool read_ipv4(const char *text, uint32_t *address)
{
    g_auto(GStrv) parts = g_strsplit(text, ".", -1);
    *address = 0;
    for (int i = 0; i < 4; i++) {
        guint64 n = 0;
        if (!parts[i] || !g_ascii_string_to_unsigned(parts[i], 10, 0, 255, &n, NULL))
            return false;
        *address = *address << 8 | (uint32_t)n;
    }
    return !parts[4];
}

/* IP is an address of CIDR. What cannot be read is not held against it. */
static bool in_cidr(const char *ip, const char *cidr)
{
    g_auto(GStrv) parts = g_strsplit(cidr, "/", 2);
    uint32_t address, base;
    guint64 bits = 0;
    if (!parts[0] || !parts[1] || !read_ipv4(ip, &address) || !read_ipv4(parts[0], &base) ||
        !g_ascii_string_to_unsigned(parts[1], 10, 0, 32, &bits, NULL))
        return true;
    uint32_t mask = bits ? UINT32_MAX << (32 - bits) : 0;
    return (address & mask) == (base & mask);
}

static void check_mac(DroverPreflight *p, const DroverTargetFacts *f, guint at, const DroverTargetNetwork *network)
{
    const DroverTargetNic *nic = &g_array_index(f->nics, DroverTargetNic, at);
    g_autofree char *digits = mac_digits(nic->mac);
    if (!*nic->mac)
        return;
    if (!digits || g_ascii_xdigit_value(digits[1]) & 1) {
        drover_find(p, weight(nic), "DRV-TARGET-MAC", 0, "'%s' is no MAC address of a network card: correct or leave it out",
                    nic->mac);
        return;
    }
    for (guint i = 0; i < at; i++)
        if (same_mac(digits, g_array_index(f->nics, DroverTargetNic, i).mac))
            drover_find(p, weight(nic), "DRV-TARGET-MAC", 0, "MAC address %s stands at two network cards", nic->mac);
    for (guint i = 0; network && network->taken && i < network->taken->len; i++) {
        const DroverTargetTaken *taken = &g_array_index(network->taken, DroverTargetTaken, i);
        if (same_mac(digits, taken->mac))
            drover_find(p, weight(nic), "DRV-TARGET-MAC", 0,
                        "VM %s has MAC address %s in network %s: give the card another one, or remove that VM", taken->vm_name,
                        nic->mac, network->name);
    }
}

static void check_ip(DroverPreflight *p, const DroverTargetNic *nic, const DroverTargetNetwork *network)
{
    if (!*nic->ip || !network)
        return;
    if (!in_cidr(nic->ip, network->cidr))
        drover_find(p, weight(nic), "DRV-TARGET-IP", 0,
                    "address %s is not in %s of network %s: the guest will not be reached there. Choose another network or "
                    "address", nic->ip, network->cidr, network->name);
    else if (strcmp(nic->ip, network->gateway) == 0)
        drover_find(p, weight(nic), "DRV-TARGET-IP", 0, "address %s is the gateway of network %s: choose another one", nic->ip,
                    network->name);
    for (guint i = 0; network->taken && i < network->taken->len; i++) {
        const DroverTargetTaken *taken = &g_array_index(network->taken, DroverTargetTaken, i);
        if (strcmp(taken->ip, nic->ip) == 0)
            drover_find(p, weight(nic), "DRV-TARGET-IP", 0,
                        "VM %s has address %s in network %s: choose another one, or remove that VM", taken->vm_name, nic->ip,
                        network->name);
    }
}

static void check_network(DroverPreflight *p, const DroverTargetFacts *f, const DroverTargetNetwork *network)
{
    if (!*network->name) {
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-NETWORK", 0,
                    "the zone has no network %s%s%s that this agent may use: correct networks in the job's target",
                    *network->wanted ? "'" : "at all", network->wanted, *network->wanted ? "'" : "");
        return;
    }
    if (!network->can_deploy)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-NETWORK-STATE", 0,
                    "CloudStack takes no VM into network %s as it is: look at its state, or choose another one",
                    network->name);
    if (*network->account && *f->account && f->account_known && strcmp(network->account, f->account) != 0)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-NETWORK-OWNER", 0,
                    "network %s belongs to account %s, and the VM shall be %s's: choose a network of that account or a shared one",
                    network->name, network->account, f->account);
}

void drover_target_networks(DroverPreflight *p, const DroverTargetFacts *f)
{
    for (guint i = 0; i < f->networks->len; i++)
        check_network(p, f, &g_array_index(f->networks, DroverTargetNetwork, i));
    for (guint i = 0; i < f->nics->len; i++) {
        const DroverTargetNetwork *network =
            i < f->networks->len ? &g_array_index(f->networks, DroverTargetNetwork, i) : NULL;
        const DroverTargetNetwork *known = network && *network->name ? network : NULL;
        check_mac(p, f, i, known);
        check_ip(p, &g_array_index(f->nics, DroverTargetNic, i), known);
    }
    if (f->nics->len > f->networks->len)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-NICS", 0,
                    "the source has %u network cards, and the target VM gets %u: name a network for each, in their order",
                    f->nics->len, f->networks->len);
}
